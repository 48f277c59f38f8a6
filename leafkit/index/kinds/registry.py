"""Which kinds of index there are, and what each will be on given documents."""

from __future__ import annotations

from dataclasses import dataclass

import faiss

from leafkit.config import IndexConfig
from leafkit.core.console import log
from leafkit.core.errors import UsageError
from leafkit.index.kinds.binary import Binary, BinaryRescored
from leafkit.index.kinds.flat import Flat
from leafkit.index.kinds.hnsw import Hnsw
from leafkit.index.kinds.int8 import Int8
from leafkit.index.kinds.ivf import IvfFlat
from leafkit.index.kinds.ivf_pq import IvfPq, Opq
from leafkit.index.kinds.kind import TRAIN_PER_CLUSTER, IndexKind
from leafkit.index.kinds.rabitq import RaBitQ

KINDS: dict[str, IndexKind] = {
    kind.name: kind
    for kind in (
        Flat(),
        Hnsw(),
        IvfFlat(),
        IvfPq(),
        Opq(),
        Int8(),
        Binary(),
        BinaryRescored(),
        RaBitQ(),
    )
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What an index will be made of.

    Attributes:
        kind: a key of ``KINDS``.
        factory: faiss's own description of it, for ``faiss.index_factory`` or
            ``faiss.index_binary_factory``.
        parameter: what is swept at search time: ef_search, num_probes or rescore_factor; "" where
            nothing is.
        settings: its values, cheapest first; (0,) where nothing is swept.
        num_training: documents it is trained on.
    """

    kind: str
    factory: str
    parameter: str
    settings: tuple[int, ...]
    num_training: int

    @property
    def about(self) -> IndexKind:
        """What its kind is and does."""
        return KINDS[self.kind]

    def label(self, setting: int) -> str:
        """The setting in words."""
        return f"{self.parameter}={setting}" if self.parameter else "exhaustive"


def plan_indexes(config: IndexConfig, num_documents: int, dim: int) -> list[Plan]:
    """What each kind in ``config.kinds`` will be, on N documents of D dimensions.

    Says it where a kind is left out because this faiss lacks it, and where a sweep or a training
    set is cut short.

    Raises:
        UsageError: some kind cannot be built of so many documents or dimensions; all such kinds are
            named.
    """
    check_indexes(config, num_documents, dim)
    kinds = []
    for name in dict.fromkeys(config.kinds):
        kind = KINDS[name]
        if kind.needs and not hasattr(faiss, kind.needs):
            log(f"  index {name} is left out: faiss {faiss.__version__} has no {kind.needs}")
        else:
            kinds.append(kind)
    for warning in dict.fromkeys(w for kind in kinds for w in kind.warnings(config, num_documents)):
        log(f"  {warning}")
    return [_plan(kind, config, num_documents, dim) for kind in kinds]


def check_indexes(config: IndexConfig, num_documents: int, dim: int) -> None:
    """Whether all of ``config.kinds`` can be built of N documents of D dimensions.

    Raises:
        UsageError: some cannot; all such kinds are named.
    """
    wanted = dict.fromkeys(config.kinds)
    unknown = sorted(name for name in wanted if name not in KINDS)
    lines = []
    if unknown:
        lines.append(f"bench.indexes.kinds: {', '.join(unknown)} is not one of {', '.join(KINDS)}")
    kinds_of: dict[tuple[str, bool], list[str]] = {}
    for name in wanted:
        for problem in KINDS[name].problems(config, num_documents, dim) if name in KINDS else []:
            kinds_of.setdefault((problem.text, problem.names_kinds), []).append(name)
    for (text, names_kinds), names in kinds_of.items():
        lines.append(f"{', '.join(names)} {text}" if names_kinds else text)
    if lines:
        raise UsageError(
            "; ".join(lines),
            "change these keys, or take the kinds they belong to out of bench.indexes.kinds",
        )


def _plan(kind: IndexKind, config: IndexConfig, num_documents: int, dim: int) -> Plan:
    num_training = min(num_documents, TRAIN_PER_CLUSTER * kind.num_clusters(config, num_documents))
    return Plan(
        kind.name,
        kind.factory(config, num_documents, dim),
        kind.parameter,
        tuple(sorted(set(kind.settings(config, num_documents)))),
        num_training,
    )
