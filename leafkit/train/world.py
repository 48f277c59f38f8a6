"""The processes of a launch, as torchrun or SLURM says."""

from __future__ import annotations

import os
from dataclasses import dataclass


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
    """Rank and sizes from torchrun's or SLURM's variables; one process without them."""
    env = os.environ
    if "WORLD_SIZE" in env and "RANK" in env:
        size = int(env["WORLD_SIZE"])
        return World(int(env["RANK"]), size, int(env.get("LOCAL_WORLD_SIZE", size)))
    if (
        "SLURM_NTASKS" in env
        and "SLURM_PROCID" in env
        and env.get("SLURM_JOB_NAME") not in {"bash", "interactive"}
    ):
        size = int(env["SLURM_NTASKS"])
        return World(int(env["SLURM_PROCID"]), size, size // int(env.get("SLURM_NNODES", "1")))
    return World(0, 1, 1)
