"""What every store is: a collection in one space, filled by id, asked for what is nearest.

Each row carries a mark, a hash of its content and its vector. A store is asked which marks it has
and gets what it lacks: a run that was stopped goes on there, and one that is repeated writes
nothing.

Shapes: n rows of D dimensions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from leafkit.core.errors import LeafkitError
from leafkit.data.records import Document
from leafkit.data.vector_store import Space
from leafkit.index.vectors import Vectors
from leafkit.results import codec

FORMAT = 1  # of what a collection says of itself
MARK = "leafkit_mark"  # name of the field with a row's mark
_NAMES = 250  # bytes that a row's mark, its key and the names of its fields take at most
ANOTHER = "give the vectors a new collection, or delete this one if nobody needs it any more"


@dataclass(frozen=True, slots=True)
class StoredSpace:
    """What a collection says of itself, in the one place that its store has for such words.

    Attributes:
        space: that its vectors are in.
        precision: of the vectors there.
        format: of this description.
    """

    space: Space
    precision: str
    format: int = FORMAT

    def to_json(self) -> str:
        """As text; the same for the same space."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, what: str) -> StoredSpace:
        """Read what ``to_json`` wrote.

        Raises:
            LeafkitError: it is something else.
        """
        try:
            found: StoredSpace = codec.from_plain(cls, json.loads(text))
        except (ValueError, codec.Mismatch) as err:
            raise LeafkitError(
                f"{what}: what it says of its space is not as this leafkit writes it", ANOTHER
            ) from err
        return found


@dataclass(frozen=True, slots=True)
class Rows:
    """Documents with their vectors, in order.

    Attributes:
        start: number of the first among all.
        documents: ids, titles and texts.
        vectors: (n, D) float32.
        source: name of their collection.
        marks: one for each.
    """

    start: int
    documents: Sequence[Document]
    vectors: np.ndarray
    source: str
    marks: Sequence[str]

    def __len__(self) -> int:
        return len(self.documents)

    def lacking(self, held: Mapping[str, str]) -> Rows:
        """Those that a store does not hold as they are.

        Args:
            held: marks by id.
        """
        chosen = [i for i, d in enumerate(self.documents) if held.get(d.id, "") != self.marks[i]]
        return Rows(
            self.start,
            [self.documents[i] for i in chosen],
            self.vectors[chosen],
            self.source,
            [self.marks[i] for i in chosen],
        )

    def parts(self, size: int) -> Sequence[Rows]:
        """The same rows, so many at a time."""
        return [self._between(i, i + size) for i in range(0, len(self), size)]

    def parts_below(self, most: int, bytes_per_number: int) -> Iterator[Rows]:
        """The same rows, as many at a time as fit into a request of JSON; a row that is longer than
        one goes alone.

        Args:
            most: bytes of a request.
            bytes_per_number: that a number of a vector takes at most.
        """
        numbers = self.vectors.shape[1] * bytes_per_number
        first, total = 0, 0
        for i, document in enumerate(self.documents):
            # of ASCII with escapes, the longest way to write it; the rest are names of fields
            told = json.dumps([document.id, document.title, document.text, self.source])
            size = numbers + len(told) + _NAMES
            if i > first and total + size > most:
                yield self._between(first, i)
                first, total = i, 0
            total += size
        if len(self):
            yield self._between(first, len(self))

    def _between(self, start: int, stop: int) -> Rows:
        return Rows(
            self.start + start,
            self.documents[start:stop],
            self.vectors[start:stop],
            self.source,
            self.marks[start:stop],
        )


def make_rows(start: int, documents: Sequence[Document], vectors: np.ndarray, source: str) -> Rows:
    """Rows with their marks.

    Args:
        start: number of the first among all.
        documents: in the order of the vectors.
        vectors: (n, D), of any float type.
        source: name of the documents' collection.
    """
    exact = np.ascontiguousarray(vectors, dtype="<f4")
    marks = []
    for document, vector in zip(documents, exact, strict=True):
        digest = hashlib.blake2b(digest_size=16)
        told = json.dumps([document.id, document.title, document.text, source])
        digest.update(told.encode("utf-8", "surrogatepass"))
        digest.update(vector.tobytes())
        marks.append(digest.hexdigest())
    return Rows(start, documents, exact, source, marks)


@dataclass(frozen=True, slots=True)
class Found:
    """A row that a search found.

    Attributes:
        id: of the document.
        score: inner product with the query, as the store computes it.
        text: of the document, title included.
    """

    id: str
    score: float
    text: str


class Store(Protocol):
    """A collection in a store; it may not be there yet."""

    def stored(self) -> StoredSpace | None:
        """What the collection says of itself; None where there is none yet.

        Raises:
            LeafkitError: the store does not answer, or another program made the collection.
        """

    def create(self, about: StoredSpace, vectors: Vectors) -> None:
        """Make the collection.

        Args:
            about: what it says of itself.
            vectors: (N, D) all that it will hold, for a precision that is fitted on them.
        """

    def send(self, rows: Rows) -> int:
        """Write those rows that are not there as they are; returns how many. What returns is
        stored.
        """

    def finish(self, num_rows: int) -> Sequence[str]:
        """Do what is done once all rows are there.

        Args:
            num_rows: that were sent.

        Returns:
            What the user should know, in sentences; often nothing.
        """

    def count(self) -> int:
        """Rows in the collection."""

    def search(self, query: np.ndarray, k: int) -> Sequence[Found]:
        """The ``k`` rows nearest to a query, best first.

        Args:
            query: (D,) float32.
            k: at most.
        """

    def close(self) -> None:
        """Let go of connections and locks."""


def check_stored(what: str, found: StoredSpace, wanted: StoredSpace) -> None:
    """Refuse to mix vectors of two spaces, or of two precisions, in a collection.

    Raises:
        LeafkitError: they are not the same; every difference is named.
    """
    ours, theirs = asdict(wanted.space), asdict(found.space)
    differences = [
        f"{key} is {theirs[key]!r} there and {ours[key]!r} here"
        for key in ours
        if ours[key] != theirs[key]
    ]
    if differences:
        raise LeafkitError(
            f"{what} holds vectors of another space ({'; '.join(differences)}): rankings over both "
            "would be meaningless",
            ANOTHER,
        )
    if found.precision != wanted.precision:
        raise LeafkitError(
            f"{what} holds {found.precision} vectors, not {wanted.precision}",
            f"embed.to_precision={found.precision}, or {ANOTHER}",
        )


def foreign(what: str) -> LeafkitError:
    """The error of a collection that leafkit did not make."""
    return LeafkitError(
        f"{what} was not made by leafkit embed: nothing says which space its vectors are in",
        "name a collection that is not there yet; leafkit embed makes it",
    )


def missing(what: str) -> LeafkitError:
    """The error of a collection that is searched before it is there."""
    return LeafkitError(f"{what} is not there", f"leafkit embed recipe=NAME to={what} fills it")
