"""The processes of a launch, as torchrun or SLURM says."""

from __future__ import annotations

import os
from dataclasses import dataclass

from leafkit.core.errors import UsageError

_ALONE = {"WORLD_SIZE": ("", "1"), "RANK": ("", "0")}  # what says one process


@dataclass(frozen=True, slots=True)
class World:
    """Rank of this process and the sizes of the launch.

    Attributes:
        rank: number of this process over all nodes.
        size: processes over all nodes.
        num_local: processes on this node.
    """

    rank: int
    size: int
    num_local: int

    @property
    def local_rank(self) -> int:
        """Number of this process on its node, and so of its GPU."""
        return self.rank % self.num_local

    @property
    def num_nodes(self) -> int:
        """Machines that take part."""
        return max(1, self.size // self.num_local)


def read_world() -> World:
    """Rank and sizes from torchrun's or SLURM's variables; one process without them.

    Raises:
        UsageError: a variable of the launch is no number, or they contradict each other.
    """
    env = os.environ
    if "WORLD_SIZE" in env and "RANK" in env:
        size = _read_number("WORLD_SIZE", low=1)
        rank = _read_number("RANK", high=size - 1)
        num_local = _read_number("LOCAL_WORLD_SIZE", size, low=1, high=size)
        _read_number("LOCAL_RANK", 0, high=num_local - 1)
        return World(rank, size, num_local)
    lone = next((name for name, one in _ALONE.items() if env.get(name, "") not in one), "")
    if lone:
        other = "RANK" if lone == "WORLD_SIZE" else "WORLD_SIZE"
        raise UsageError(
            f"the environment variable {lone} is {env[lone]!r}, but {other} is not set",
            f"start several processes with torchrun, or unset {lone} for one",
        )
    if (
        "SLURM_NTASKS" in env
        and "SLURM_PROCID" in env
        and env.get("SLURM_JOB_NAME") not in {"bash", "interactive"}
    ):
        size = _read_number("SLURM_NTASKS", low=1)
        num_nodes = _read_number("SLURM_NNODES", 1, low=1, high=size)
        return World(_read_number("SLURM_PROCID", high=size - 1), size, size // num_nodes)
    return World(0, 1, 1)


def check_meeting_place() -> None:
    """See that the processes of a launch know where to meet.

    Raises:
        UsageError: MASTER_ADDR or MASTER_PORT is missing or wrong.
    """
    _read_number("MASTER_PORT", low=1, high=65_535)
    if not os.environ.get("MASTER_ADDR"):
        raise UsageError(
            "the environment variable MASTER_ADDR is not set",
            "start several processes with torchrun, which sets it",
        )


def _read_number(name: str, default: int | None = None, *, low: int = 0, high: int = 10**6) -> int:
    """A whole number from the environment.

    Raises:
        UsageError: it is not one, is out of bounds, or is missing and has no default.
    """
    found = os.environ.get(name)
    if found is None and default is not None:
        return default
    is_number = found is not None and found.isascii() and found.isdecimal() and len(found) < 10
    if not is_number or not low <= int(found or 0) <= high:
        told = "not set" if found is None else f"{found[:40]!r}"
        raise UsageError(
            f"the environment variable {name} is {told}, not a whole number from {low} to {high}",
            f"let torchrun or srun set it, or unset {name} for a single process",
        )
    return int(found or 0)
