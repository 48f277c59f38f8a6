"""The settings of the inheritance grid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from leafkit.config import InheritConfig
from leafkit.core.errors import UsageError


class Cell(NamedTuple):
    """One setting of the grid."""

    dim: int
    precision: str
    queries: str
    rescoring: int

    def column(self, system: str) -> str:
        """Name of a system's per-query values in this cell."""
        return f"{system}/{self.dim}/{self.precision}/{self.queries}/x{self.rescoring}"


def plan_cells(dims: Sequence[int], config: InheritConfig) -> list[Cell]:
    """Every setting once. float32 with quantised queries, or rescored, is float32 itself."""
    return [
        Cell(dim, precision, queries, rescoring)
        for dim in dims
        for precision in dict.fromkeys(config.precisions)
        for queries in (dict.fromkeys(config.queries) if precision != "float32" else ["float"])
        for rescoring in (dict.fromkeys(config.rescoring) if precision != "float32" else [0])
    ]


def choose_dims(wanted: Sequence[int], known: Sequence[int], full_dim: int) -> list[int]:
    """The dimensions to measure, largest first: those wanted, or else those known, and the full
    one.

    Raises:
        UsageError: one is larger than the vectors, or the teacher was trained for others.
    """
    for dim in wanted:
        if not 1 <= dim <= full_dim:
            raise UsageError(
                f"inherit.dims: {dim} is not between 1 and the vectors' dimension {full_dim}"
            )
        if known and dim not in known and dim != full_dim:
            raise UsageError(
                f"inherit.dims: {dim} is not among the teacher's Matryoshka dimensions "
                f"({', '.join(map(str, known))})",
                "name some of these, or leave inherit.dims empty to measure all of them",
            )
    return sorted({full_dim, *(wanted or known)}, reverse=True)
