"""Vectors that were computed elsewhere, found by their text: an Embedder without a model.

A folder holds texts and their matrix, in the same order, float16, float32 or float64:

    documents.jsonl   rows {"text"} or {"id", "title", "text"}; a title stands before its text
    documents.npy     (n, D), what numpy.save writes
    queries.jsonl     rows {"text"}
    queries.npy
    about.json        optional: {"name", "prompts", "mrl_dims", "normalized", "space"}

or it is a vector store of leafkit's (see ``leafkit.data.vector_store``), or has one as documents/
and one as queries/. Texts stand there without prompt; about.json says which prompts their vectors
were computed with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import VECTORS_ABOUT_FILE
from leafkit.core.console import Bar
from leafkit.core.errors import LeafkitError, UsageError, remedy_of
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.vector_store import Space
from leafkit.embedders.precomputed_files import (
    ROWS_AT_ONCE,
    STORE_FILES,
    Table,
    read_store,
    read_table,
)
from leafkit.embedders.protocol import NO_LIMIT, EmbedderBase

ROLES = {"document": "documents", "query": "queries"}
_ABOUT_TYPES = {"name": str, "prompts": dict, "mrl_dims": list, "normalized": bool, "space": str}
_UNIT_TOLERANCE = 0.01  # lengths this near to one are taken for one: float16 and bf16 round


@dataclass(frozen=True, slots=True)
class About:
    """What about.json says; ``normalized`` is None where it says nothing of it.

    ``space`` is any name: folders of one name are in one space, and the space stays the same when
    texts are added.
    """

    name: str = ""
    prompts: dict[str, str] = field(default_factory=dict)
    mrl_dims: tuple[int, ...] = ()
    normalized: bool | None = None
    space: str = ""


class PrecomputedVectors(EmbedderBase):
    """The vectors of a folder; an Embedder that knows the folder's texts and no others.

    Args:
        folder: see the module.
        mrl_dims: Matryoshka dimensions; empty takes those of about.json.

    Attributes:
        folder: as given.
        name: what about.json calls the model; "" where it does not.
        is_named: somebody has named the space; else its name is the folder's content.

    Raises:
        UsageError: there is no such folder.
        LeafkitError: files are missing, damaged, of other shapes than their texts or hold numbers
            that are not finite, a text has two vectors, or about.json says what cannot be.
    """

    def __init__(self, folder: Path, mrl_dims: Sequence[int] = ()) -> None:
        if not folder.is_dir():
            raise UsageError(
                f"vectors:{folder}: no such folder: {folder.absolute()}", "check the path"
            )
        about = read_about(folder / VECTORS_ABOUT_FILE)
        self.folder, self.name = folder, about.name
        self._is_store = any(
            any(place.glob(STORE_FILES))
            for place in (folder, *(folder / stem for stem in ROLES.values()))
        )
        self._tables, self._spaces = (
            _open_stores(folder, about) if self._is_store else _open_matrices(folder, about)
        )
        self._dim = next(iter(self._spaces.values())).dim
        self._mrl_dims = tuple(sorted(set(mrl_dims), reverse=True)) or about.mrl_dims
        if any(not 1 <= dim <= self.dim for dim in self.mrl_dims):
            raise LeafkitError(
                f"vectors:{folder}: mrl_dims {list(self.mrl_dims)} are not between 1 and the "
                f"vectors' {self.dim}",
                "name dimensions that the vectors have, in about.json or with teacher.mrl_dims",
            )
        self._prompts = about.prompts | {role: space.prompt for role, space in self._spaces.items()}
        self._space_id = next(iter(self._spaces.values())).teacher
        self.is_named = self._is_store or bool(about.space)
        self._fingerprint = _identify(folder) if about.space else self._space_id

    @property
    def fingerprint(self) -> str:
        """Of the folder's content; a vector store's is that of the model which made it."""
        return self._fingerprint

    @property
    def content(self) -> str:
        """Of all texts and vectors: those of a store may change while its model, and so its
        fingerprint, stays.
        """
        return _identify_stores(self.folder) if self._is_store else self._fingerprint

    @property
    def space_id(self) -> str:
        """What about.json calls the space, or the store's model, or the folder's content."""
        return self._space_id

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self._dim

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first."""
        return self._mrl_dims

    @property
    def max_tokens(self) -> int:
        """The vectors are made: nothing is cut here."""
        return NO_LIMIT

    @property
    def is_one_store(self) -> bool:
        """Whether one vector store serves both roles: no telling which of its texts are queries."""
        tables = list(self._tables.values())
        return len(tables) > 1 and all(table is tables[0] for table in tables)

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that it has vectors of."""
        return tuple(self._tables)

    def prompt(self, role: str) -> str:
        """Text that was put before an input of this role when its vector was computed."""
        return self._prompts.get(role, "")

    def space(self, role: str, max_tokens: int) -> Space:
        """The space of a role's vectors: a store's own; else named by about.json's "space", or by
        the folder's content.

        ``max_tokens`` decides about nothing here: the vectors are made.

        Raises:
            LeafkitError: the folder has no vectors of this role.
        """
        self._table(role)
        return self._spaces[role]

    def has(self, texts: Sequence[str], role: str) -> np.ndarray:
        """(n,) bool: which texts have a vector in this role."""
        return (
            self._tables[role].find(texts) >= 0
            if role in self._tables
            else np.zeros(len(texts), dtype=bool)
        )

    def require(self, texts: Sequence[str], role: str) -> None:
        """Refuse texts without a vector.

        Raises:
            LeafkitError: some have none; the message counts them and shows the first.
        """
        table = self._table(role)
        missing = np.flatnonzero(~self.has(texts, role))
        if not len(missing):
            return
        other = next(r for r in ROLES if r != role)
        strays = int(self.has([texts[int(i)] for i in missing], other).sum())
        first = texts[int(missing[0])]
        raise LeafkitError(
            f"{table.where} lacks the {role} vectors of {len(missing):,} of {len(texts):,} "
            f"texts; the first is number"
            f" {int(missing[0])}, {first[:80] + ('...' if len(first) > 80 else '')!r}"
            + (f" ({strays:,} of them are among the {ROLES[other]})" if strays else ""),
            f"embed them with the same model and add them to the {ROLES[role]}; a document's "
            f"text is its title, a space, and"
            " its text",
        )

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts: as they are stored, or of length one where about.json's
        are normalised.

        Raises:
            LeafkitError: a text has no vector here.
        """
        self.require(texts, role)
        table, out = self._tables[role], np.empty((len(texts), self.dim), dtype=np.float32)
        rows = table.find(texts)
        # a store's are what its model gave
        is_scaled = self._spaces[role].normalized and not self._is_store
        for start in range(0, len(texts), ROWS_AT_ONCE):
            block = table.vectors.take(rows[start : start + ROWS_AT_ONCE])
            out[start : start + len(block)] = truncate_then_normalize(block) if is_scaled else block
            if bar is not None:
                bar.advance(len(block))
        return out

    def _table(self, role: str) -> Table:
        if role not in self._tables:
            stem = ROLES[role]
            raise LeafkitError(
                f"vectors:{self.folder} holds no {role} vectors",
                f"embed the {stem} with the same model and save {stem}.jsonl and {stem}.npy there",
            )
        return self._tables[role]


def read_about(path: Path) -> About:
    """What about.json says; nothing where it is not there.

    Raises:
        LeafkitError: it is no JSON object of the keys that are known, or a value is of another
            type.
    """
    if not os.path.lexists(path):
        return About()
    hint = (
        'it may hold "name", "prompts" (text by role), "mrl_dims" (falling), "normalized" and '
        '"space"'
    )
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as err:
        raise LeafkitError(f"cannot read {path}: {err.strerror}", remedy_of(err)) from err
    except (ValueError, RecursionError) as err:
        raise LeafkitError(f"{path} is not JSON: {err}", hint) from err
    if not isinstance(found, dict):
        raise LeafkitError(f"{path} holds a {type(found).__name__}, not an object", hint)
    for key, value in found.items():
        if key not in _ABOUT_TYPES:
            raise LeafkitError(f"{path}: {key!r} is not known", hint)
        if not isinstance(value, _ABOUT_TYPES[key]):
            raise LeafkitError(
                f"{path}: {key} is {value!r}, not a {_ABOUT_TYPES[key].__name__}", hint
            )
    prompts, dims = found.get("prompts", {}), found.get("mrl_dims", [])
    if set(prompts) - set(ROLES) or not all(isinstance(text, str) for text in prompts.values()):
        raise LeafkitError(
            f"{path}: prompts is {prompts!r}, not text by role ({', '.join(ROLES)})", hint
        )
    if not all(type(dim) is int for dim in dims) or sorted(set(dims), reverse=True) != dims:
        raise LeafkitError(
            f"{path}: mrl_dims is {dims!r}, not a falling list of whole numbers", hint
        )
    return About(**found | {"mrl_dims": tuple(dims)})


def _open_stores(folder: Path, about: About) -> tuple[dict[str, Table], dict[str, Space]]:
    """Vector stores: the folder itself serves both roles, documents/ and queries/ one each."""
    loose = [path.name for stem in ROLES.values() for path in folder.glob(f"{stem}.*")]
    if loose:
        raise LeafkitError(
            f"vectors:{folder} holds a vector store and {loose[0]} beside it",
            "remove one of the two",
        )
    if about.prompts or about.normalized is not None or about.space:
        raise LeafkitError(
            f"{folder / VECTORS_ABOUT_FILE}: a vector store says itself what its prompts, its "
            f"normalisation and its space are",
            "leave name and mrl_dims alone there",
        )
    if any(folder.glob(STORE_FILES)):
        found = dict.fromkeys(ROLES, read_store(folder))
    else:
        places = {role: folder / stem for role, stem in ROLES.items()}
        found = {
            role: read_store(place)
            for role, place in places.items()
            if any(place.glob(STORE_FILES))
        }
    spaces = {role: space for role, (_, space) in found.items()}
    makers = {(space.teacher, space.dim) for space in spaces.values()}
    if len(makers) > 1:
        raise LeafkitError(
            f"vectors:{folder}: documents and queries are of two models, "
            + " and ".join(f"{teacher} ({dim} dimensions)" for teacher, dim in sorted(makers)),
            "put two stores of one model together",
        )
    return {role: table for role, (table, _) in found.items()}, spaces


def _open_matrices(folder: Path, about: About) -> tuple[dict[str, Table], dict[str, Space]]:
    """Texts and matrices that the user made, and the space that they and about.json amount to."""
    files = {
        role: (folder / f"{stem}.jsonl", folder / f"{stem}.npy") for role, stem in ROLES.items()
    }
    tables = {
        role: read_table(*pair)
        for role, pair in files.items()
        if any(path.exists() for path in pair)
    }
    if not tables:
        raise LeafkitError(
            f"vectors:{folder} holds neither documents.jsonl and documents.npy nor a vector store",
            "save the texts as rows and their vectors with numpy.save, in the same order; "
            "queries likewise",
        )
    dims = {ROLES[role]: table.vectors.dim for role, table in tables.items()}
    if len(set(dims.values())) > 1:
        raise LeafkitError(
            f"vectors:{folder}: "
            + " and ".join(f"{what} of {dim} dimensions" for what, dim in dims.items()),
            "save vectors of one model",
        )
    is_unit = all(
        abs(length - 1) <= _UNIT_TOLERANCE
        for t in tables.values()
        for length in (t.shortest, t.longest)
    )
    normalized = is_unit if about.normalized is None else about.normalized
    space, dim = about.space or _identify(folder), next(iter(dims.values()))
    return tables, {
        role: Space(
            space, dim, about.prompts.get(role, ""), max_tokens=0, pooling="", normalized=normalized
        )
        for role in tables
    }


def _identify(folder: Path) -> str:
    names = [
        *(f"{stem}.{kind}" for stem in ROLES.values() for kind in ("jsonl", "npy")),
        VECTORS_ABOUT_FILE,
    ]
    return fingerprint(
        {name: sha256_of_file(folder / name) for name in names if (folder / name).is_file()}
    )


def _identify_stores(folder: Path) -> str:
    """By the commit records, which hold the sha256 of their shards."""
    places = (folder, *(folder / stem for stem in ROLES.values()))
    shards = [path for place in places for path in place.glob(STORE_FILES)]
    records = [path.with_suffix(".json") for path in shards]
    return fingerprint(
        {
            record.relative_to(folder).as_posix(): sha256_of_file(record)
            for record in records
            if record.is_file()
        }
    )
