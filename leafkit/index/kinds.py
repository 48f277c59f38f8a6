"""The kinds of faiss index that are compared: what each is made of, and what is swept when it is
searched.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, sqrt

import faiss

from leafkit.config.schema import INDEX_KINDS, IndexConfig
from leafkit.core.console import log
from leafkit.core.errors import UsageError

NUM_CODES = 256  # codewords of a PQ codebook, 8 bits
# documents that train each cluster or codeword, where there are so many; faiss takes 39 to 256
TRAIN_PER_CLUSTER = 64
FEW_PER_CLUSTER = 39  # below it faiss warns
IVF_KINDS = ("ivf_flat", "ivf_pq", "opq", "rabitq")
PQ_KINDS = ("ivf_pq", "opq")
BINARY_KINDS = ("binary", "binary_rescored")
_PARAMETERS = {"hnsw": "ef_search", "binary_rescored": "rescore_factor"} | dict.fromkeys(
    IVF_KINDS, "num_probes"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an index will be made of.

    Attributes:
        kind: one of INDEX_KINDS.
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
    def is_binary(self) -> bool:
        """Whether documents are kept as bits."""
        return self.kind in BINARY_KINDS

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
    kinds = list(dict.fromkeys(config.kinds))
    if "rabitq" in kinds and not hasattr(faiss, "IndexIVFRaBitQ"):
        log(f"  index rabitq is left out: faiss {faiss.__version__} does not have it, 1.11 does")
        kinds.remove("rabitq")
    num_lists = choose_lists(config, num_documents)
    clipped = [p for p in config.num_probes if p > num_lists]
    if clipped and set(kinds) & set(IVF_KINDS):
        log(
            f"  num_probes {', '.join(map(str, clipped))}: there are {num_lists} lists, all of "
            f"them are looked into"
        )
    if set(kinds) & set(PQ_KINDS) and num_documents < FEW_PER_CLUSTER * NUM_CODES:
        log(
            f"  PQ codebooks of {NUM_CODES} are trained on {num_documents:,} documents;"
            f" faiss recommends {FEW_PER_CLUSTER * NUM_CODES:,}"
        )
    return [_plan(kind, config, num_documents, dim, num_lists) for kind in kinds]


def check_indexes(config: IndexConfig, num_documents: int, dim: int) -> None:
    """Whether all of ``config.kinds`` can be built of N documents of D dimensions.

    Raises:
        UsageError: some cannot; all such kinds are named.
    """
    problems = _find_problems(config, num_documents, dim)
    if problems:
        raise UsageError(
            "; ".join(problems),
            "change these keys, or take the kinds they belong to out of bench.indexes.kinds",
        )


def choose_lists(config: IndexConfig, num_documents: int) -> int:
    """Clusters of the IVF kinds: those given, else the power of two nearest to 4 sqrt(N), but no
    more than documents.
    """
    return config.num_lists or min(num_documents, 2 ** round(log2(4 * sqrt(num_documents))))


def choose_code_bytes(config: IndexConfig, dim: int) -> int:
    """Bytes of a PQ code: those given, else the largest divisor of D up to D / 8, a bit per
    dimension.
    """
    return config.code_bytes or max(m for m in range(1, max(1, dim // 8) + 1) if dim % m == 0)


def _find_problems(config: IndexConfig, num_documents: int, dim: int) -> list[str]:
    kinds, problems = set(config.kinds), []
    unknown = sorted(kinds - set(INDEX_KINDS))
    if unknown:
        problems.append(
            f"bench.indexes.kinds: {', '.join(unknown)} is not one of {', '.join(INDEX_KINDS)}"
        )
    if kinds & set(IVF_KINDS) and config.num_lists > num_documents:
        problems.append(
            f"bench.indexes.num_lists={config.num_lists} is more than the {num_documents:,} "
            f"documents"
        )
    if kinds & set(PQ_KINDS):
        if num_documents < NUM_CODES:
            named = ", ".join(sorted(kinds & set(PQ_KINDS)))
            problems.append(
                f"{named} needs {NUM_CODES} documents to train on, there are {num_documents}"
            )
        if dim % choose_code_bytes(config, dim):
            divisors = [m for m in range(1, dim + 1) if dim % m == 0]
            nearest = sorted(sorted(divisors, key=lambda m: abs(m - config.code_bytes))[:3])
            problems.append(
                f"bench.indexes.code_bytes={config.code_bytes} does not divide the {dim} "
                f"dimensions;"
                f" {', '.join(map(str, nearest))} do"
            )
    if "hnsw" in kinds and config.hnsw_links < 2:
        problems.append(
            f"bench.indexes.hnsw_links={config.hnsw_links} is below 2, which no graph holds "
            f"together with"
        )
    return problems


def _plan(kind: str, config: IndexConfig, num_documents: int, dim: int, num_lists: int) -> Plan:
    lists, code_bytes = f"IVF{num_lists}", choose_code_bytes(config, dim)
    # np: no polysemous training, which only a search by Hamming distance would use
    pq = f"{lists},PQ{code_bytes}x8np"
    factory = {
        "flat": "Flat",
        "hnsw": f"HNSW{config.hnsw_links}",
        "ivf_flat": f"{lists},Flat",
        "ivf_pq": pq,
        "opq": f"OPQ{code_bytes},{pq}",
        "int8": "SQ8",
        "binary": "BFlat",
        "binary_rescored": "BFlat",
        "rabitq": f"RR{dim},{lists},RaBitQ",
    }[kind]
    parameter = _PARAMETERS.get(kind, "")
    sweeps = {"ef_search": config.ef_search, "rescore_factor": config.rescore_factors, "": [0]}
    sweeps["num_probes"] = [min(p, num_lists) for p in config.num_probes]
    num_clusters = max(
        num_lists if kind in IVF_KINDS else 0, NUM_CODES if kind in (*PQ_KINDS, "int8") else 0
    )
    num_training = min(num_documents, TRAIN_PER_CLUSTER * num_clusters)
    return Plan(kind, factory, parameter, tuple(sorted(set(sweeps[parameter]))), num_training)
