"""Pairs out of a collection of Qdrant's, read page by page: a server, or the folder of its local
mode.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.core.console import progress_bar
from leafkit.core.errors import LeafkitError, MissingExtra, UsageError
from leafkit.core.hosts import host_of, is_loopback
from leafkit.data.sources.bad_rows import BadRows
from leafkit.embedders.pairs.columns import PairColumns, make_row
from leafkit.embedders.pairs.lengths import ZERO, find_odd, is_zero
from leafkit.embedders.pairs.pair_files import PairFiles, PairRow

KEY_VARIABLE = "QDRANT_API_KEY"
_POINTS_AT_ONCE = 256
_TIMEOUT_S = 60
_AGAIN = "the same command goes on where it stopped"


@contextlib.contextmanager
def open_qdrant(place: str) -> Iterator[Any]:
    """A client of the server at an address, or of a folder of the local mode.

    Raises:
        MissingExtra: qdrant-client is not installed.
        UsageError: there is no such folder, or a key would be sent in the clear.
        LeafkitError: another program has the folder open.
    """
    try:
        from qdrant_client import QdrantClient
    except ImportError as err:
        raise MissingExtra("qdrant-client", "qdrant", "qdrant:URL/COLLECTION") from err
    key = os.environ.get(KEY_VARIABLE) or None
    if place.startswith(("http://", "https://")):
        if key and place.startswith("http://") and not is_loopback(host_of(place)):
            raise UsageError(
                f"{KEY_VARIABLE} is set, and {place} would get it unencrypted",
                "name the server with https://, or unset the variable",
            )
        client = QdrantClient(url=place, api_key=key, timeout=_TIMEOUT_S)
    else:
        if not (Path(place) / "meta.json").is_file():
            raise UsageError(
                f"qdrant:{place}: no folder of Qdrant's local mode: {Path(place).absolute()}",
                "qdrant:http://HOST:6333/COLLECTION names a server, qdrant:FOLDER/COLLECTION what "
                "QdrantClient(path=FOLDER) wrote",
            )
        try:
            client = QdrantClient(path=place)
        except RuntimeError as err:
            raise LeafkitError(
                f"{place}: {str(err).splitlines()[0]}", "close the program that has it open"
            ) from err
    try:
        yield client
    finally:
        client.close()


def count_points(client: Any, place: str, collection: str) -> int:
    """How many points a collection has.

    Raises:
        UsageError: there is no such collection.
        LeafkitError: the server cannot be reached, or refuses.
    """
    with _explained(place, collection):
        names = [one.name for one in client.get_collections().collections]
        if collection not in names:
            raise UsageError(
                f"qdrant:{place} has no collection {collection!r}; it has "
                f"{', '.join(names) or 'none'}",
                "name one of them: qdrant:URL/COLLECTION",
            )
        return int(client.count(collection, exact=True).count)


def fetch_qdrant(
    client: Any,
    place: str,
    collection: str,
    columns: PairColumns,
    *,
    total: int,
    files: PairFiles,
    bad: BadRows,
    similarity: str = "",
) -> str:
    """Copy the collection's points.

    Args:
        client: of the server or folder.
        place: its address, for messages.
        collection: of it.
        columns: keys of the payload; ``vector`` says which vector, where points have several.
        total: points, for the progress bar.
        files: get the rows, behind those that they have.
        bad: the policy for points that cannot be used.
        similarity: how the vectors are to be compared, "cosine" or "dot"; "" takes what the
            collection says, which for Dot are inner products of vectors of any length.

    Returns:
        "cosine" or "dot"; "" where the vectors' lengths say it.

    Raises:
        UsageError: there are several vectors and none is named, they are of a kind that is not
            read, or inner products are asked for of a collection that keeps no lengths.
        LeafkitError: the server fails, a point cannot be used and the policy is to stop, or the
            collection measures distances that its vectors' inner products do not order.
    """
    with _explained(place, collection):
        name, distance = _choose_vector(client, place, collection, columns.vector)
        if distance == "Cosine" and similarity == "dot":
            raise UsageError(
                f"qdrant:{place}/{collection} compares by Cosine, and keeps its vectors without "
                "their lengths",
                "leave similarity=dot out",
            )
        with progress_bar(f"pairs of {collection}", total, "points") as bar:
            bar.advance(files.progress.rows + files.progress.skipped)
            while not files.progress.is_done:
                points, following = client.scroll(
                    collection,
                    limit=_POINTS_AT_ONCE,
                    offset=files.progress.next,
                    with_payload=True,
                    with_vectors=[name] if name else True,
                )
                rows, vectors = _read_points(points, name, columns, bad)
                if distance not in ("Cosine", "Dot"):
                    _check_unit(vectors, rows, distance)
                is_done = following is None
                where_next = following if isinstance(following, int | None) else str(following)
                skipped = len(points) - len(rows)
                files.append(rows, vectors, where_next, skipped=skipped, is_done=is_done)
                bar.advance(len(points))
    return "cosine" if distance == "Cosine" else similarity


def _choose_vector(client: Any, place: str, collection: str, asked: str) -> tuple[str, str]:
    """Name ("" for the only one) and distance of the vectors that are read."""
    found = client.get_collection(collection).config.params.vectors
    several: Mapping[str, Any] = found if isinstance(found, dict) else {"": found}
    where = f"qdrant:{place}/{collection}"
    if not several or found is None:
        raise UsageError(f"{where} has no dense vectors", "name a collection that has")
    if asked and asked not in several:
        there = ", ".join(name for name in several if name) or "one without a name"
        raise UsageError(f"{where} has no vector {asked!r}; it has {there}", "vector=NAME")
    if not asked and len(several) > 1:
        raise UsageError(
            f"{where} has several vectors: {', '.join(several)}", "vector=NAME says which"
        )
    name = asked or next(iter(several))
    if several[name].multivector_config is not None:
        raise UsageError(
            f"{where}: a point has many vectors {name!r}, one a token say", "vector=NAME of another"
        )
    return name, str(several[name].distance.value)


def _read_points(
    points: Sequence[Any], name: str, columns: PairColumns, bad: BadRows
) -> tuple[list[PairRow], np.ndarray]:
    """Rows and their vectors, (n, D), of the points that can be used."""
    rows: list[PairRow] = []
    vectors: list[Sequence[float]] = []
    for point in points:
        where = f"point {point.id}"
        payload = point.payload or {}
        if columns.text not in payload:
            keys = ", ".join(sorted(map(str, payload))) or "nothing"
            bad.refuse(where, f"no {columns.text!r} in its payload, which has {keys}", "text=KEY")
            continue
        row = make_row(str(point.id), payload, columns, where=where, bad=bad, counts=bad.counts)
        vector = point.vector.get(name) if isinstance(point.vector, dict) else point.vector
        if row is None:
            continue
        if not vector:
            bad.refuse(where, "it has no vector")
            continue
        if is_zero(vector):
            bad.refuse(where, ZERO)
            continue
        rows.append(row)
        vectors.append(vector)
    return rows, np.array(vectors, dtype=np.float32) if rows else np.empty((0, 0), np.float32)


def _check_unit(vectors: np.ndarray, rows: Sequence[PairRow], distance: str) -> None:
    """Of vectors of length one every distance has the order of their inner products."""
    odd = find_odd(vectors) if rows else None
    if odd is not None or distance != "Euclid":
        what = f"; {rows[odd[0]].id!r} has length {odd[1]:.3f}" if odd is not None else ""
        raise LeafkitError(
            f"the collection compares by {distance}, which orders as inner products do for "
            f"Euclid and vectors of length one alone{what}",
            "a student's queries are compared by cosine or inner product: there is none to make",
        )


@contextlib.contextmanager
def _explained(place: str, collection: str) -> Iterator[None]:
    """The client's failures in words."""
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    where = f"qdrant:{place}/{collection}"
    try:
        yield
    except UnexpectedResponse as err:
        if err.status_code in (401, 403):
            raise LeafkitError(
                f"{where}: the server refuses ({err.status_code})",
                f"check the key in the environment variable {KEY_VARIABLE}",
            ) from err
        raise LeafkitError(f"{where}: the server answers {err.status_code}", _AGAIN) from err
    except (ResponseHandlingException, OSError) as err:
        raise LeafkitError(
            f"{where}: {str(err).splitlines()[0] if str(err) else err!r}", _AGAIN
        ) from err
