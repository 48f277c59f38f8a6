"""The pair behind an adapter: held, or opened when its first vector is asked for.

What a library writes down of an adapter names the pair's folder and says which pair was there; who
reads it gets that pair or an error, never another one's vectors.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from weakref import WeakKeyDictionary

from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.adapted import OpenedFrom
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.pair import Pair

# models are no place for two threads at once: one lock for a pair, whoever holds it
_LOCKS: WeakKeyDictionary[Pair, threading.Lock] = WeakKeyDictionary()


def identity_of(pair: Pair) -> str:
    """Names what decides about the vectors that an adapter gives: the space and the student."""
    about = [asdict(pair.space), pair.student.fingerprint, pair.teacher_prompts]
    return f"leafkit-{fingerprint(about)}"


class PairSource:
    """Gives vectors of queries and documents as lists of numbers.

    Args:
        pair: the pair, or how it is opened when it is first needed.
        dim: vectors are cut to this dimension; None keeps them whole.
        identity: of the pair that must be found there; empty takes whichever it is.

    Raises:
        UsageError: it is neither.
    """

    def __init__(
        self, pair: Pair | OpenedFrom, *, dim: int | None = None, identity: str = ""
    ) -> None:
        if not isinstance(pair, Pair | OpenedFrom):
            raise UsageError(
                f"{type(pair).__name__} is no pair", "leafkit.load_pair(FOLDER) opens one"
            )
        self.dim, self._identity = dim, identity
        self._pair = pair if isinstance(pair, Pair) else None
        self._opened_from = pair.opened_from if isinstance(pair, Pair) else pair
        self._opening = threading.Lock()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> PairSource:
        """What ``settings`` named; opened when it is first needed.

        Raises:
            UsageError: the settings are of a pair in memory, or not from ``settings``.
        """
        try:
            place = OpenedFrom(**{key: settings[key] for key in OpenedFrom.__slots__})
        except KeyError as err:
            raise UsageError(f"what was written down of this adapter lacks {err}", _SAVE) from err
        if not place.folder:
            raise UsageError("this adapter was made of a pair in memory, which is gone", _SAVE)
        return cls(place, dim=settings.get("dim"), identity=settings.get("identity", ""))

    @property
    def pair(self) -> Pair:
        """The pair, opened if it is not yet.

        Raises:
            LeafkitError: there is no pair in the folder, or another one by now.
        """
        with self._opening:
            if self._pair is None:
                assert self._opened_from is not None
                pair = load_pair(**asdict(self._opened_from))
                if self._identity and identity_of(pair) != self._identity:
                    raise LeafkitError(
                        f"{self._opened_from.folder} holds another pair than the one that this "
                        f"adapter was made of ({identity_of(pair)}, not {self._identity}): its "
                        "vectors and those that are stored do not belong together",
                        "make the adapter anew, and embed what was stored with it again",
                    )
                self._pair = pair
            return self._pair

    @property
    def identity(self) -> str:
        """See ``identity_of``."""
        return self._identity or identity_of(self.pair)

    def settings(self) -> Mapping[str, Any]:
        """What ``from_settings`` opens it again with: plain values by name.

        Raises:
            UsageError: the pair came out of no folder.
        """
        if self._opened_from is None:
            raise UsageError(
                "a pair in memory, or with a teacher that is an object, cannot be written down",
                _SAVE,
            )
        return asdict(self._opened_from) | {"dim": self.dim, "identity": self.identity}

    def query(self, text: str, dim: int | None = None) -> list[float]:
        """``Pair.encode_query`` of one text, cut to ``dim`` if it is given."""
        pair, cut = self.pair, self.dim if dim is None else dim
        with _lock_of(pair):
            vector: list[float] = pair.encode_query(_one(text), cut).tolist()
        return vector

    def documents(self, texts: Sequence[str], dim: int | None = None) -> list[list[float]]:
        """``Pair.encode_document`` of texts, all of them at once, cut to ``dim`` if it is given."""
        pair, cut = self.pair, self.dim if dim is None else dim
        if isinstance(texts, str):
            raise UsageError("one text where several are asked for", "give a list of texts")
        with _lock_of(pair):
            vectors: list[list[float]] = pair.encode_document(list(texts), cut).tolist()
        return vectors

    def __reduce__(self) -> tuple[Any, ...]:
        return PairSource.from_settings, (self.settings(),)


_SAVE = 'pair.save("FOLDER"), then leafkit.load_pair("FOLDER") and the adapter of that'
_CHANGES = threading.Lock()


def _lock_of(pair: Pair) -> threading.Lock:
    with _CHANGES:
        return _LOCKS.setdefault(pair, threading.Lock())


def _one(text: str) -> str:
    if not isinstance(text, str):
        raise UsageError(f"a query is a {type(text).__name__}, not text", "give a str")
    return text
