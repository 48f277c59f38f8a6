"""The processes of a launch, as the variables of torchrun, srun or a plain environment say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from leafkit.core.console import warn
from leafkit.core.errors import UsageError

TORCHRUN, SRUN, ENVIRONMENT = "torchrun", "srun", "environment"
_ALONE = {"WORLD_SIZE": ("", "1"), "RANK": ("", "0")}  # what says one process
# srun gives one of these to what it starts; a batch script itself has none, though its other
# variables look like those of a task
_OF_SRUN = ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS", "SLURM_SRUN_COMM_HOST")
_FIRST_PORT, _NUM_PORTS = 15_000, 20_000  # below those that systems give out by themselves
_PORTS_BETWEEN_STEPS = 13  # of one job
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """This process among those of the launch.

    Attributes:
        rank: number of this process over all nodes.
        size: processes over all nodes.
        num_local: processes on this node.
        local_rank: number of this process on its node, and so of its GPU.
        node: number of this node.
        num_nodes: machines that take part.
        launcher: ``TORCHRUN``, ``SRUN`` or ``ENVIRONMENT`` (RANK, WORLD_SIZE and MASTER_* set by
            whatever started the processes); "" for one process.
        is_placed: the launcher says where on its node this process is.
    """

    rank: int
    size: int
    num_local: int
    local_rank: int = 0
    node: int = 0
    num_nodes: int = 1
    launcher: str = ""
    is_placed: bool = True


def read_world() -> World:
    """This process among those of the launch; one process where no launcher says anything.

    A process of which the launcher says only its rank is taken for the only one of its node, until
    ``join_processes`` has asked the others.

    Raises:
        UsageError: a variable of the launch is no number, or they contradict each other.
    """
    env = os.environ
    if "WORLD_SIZE" in env and "RANK" in env:
        return _read_environment()
    lone = next((name for name, one in _ALONE.items() if env.get(name, "") not in one), "")
    if lone:
        other = "RANK" if lone == "WORLD_SIZE" else "WORLD_SIZE"
        raise UsageError(
            f"the environment variable {lone} is {env[lone]!r}, but {other} is not set",
            f"start several processes with torchrun, or unset {lone} for one",
        )
    if "SLURM_NTASKS" in env and "SLURM_PROCID" in env:
        return _read_slurm()
    return World(0, 1, 1)


def _read_environment() -> World:
    size = read_number("WORLD_SIZE", low=1)
    rank = read_number("RANK", high=size - 1)
    if size == 1:
        return World(0, 1, 1, read_number("LOCAL_RANK", 0))
    is_placed = {"LOCAL_RANK", "LOCAL_WORLD_SIZE"} <= os.environ.keys()
    least = read_number("LOCAL_RANK", 0, high=size - 1) + 1
    num_local = read_number("LOCAL_WORLD_SIZE", least, low=1, high=size)
    local_rank = read_number("LOCAL_RANK", 0, high=num_local - 1)
    num_nodes = read_number("GROUP_WORLD_SIZE", max(1, size // num_local), low=1, high=size)
    # nodes may have different numbers of processes
    node = read_number("GROUP_RANK", min(rank // num_local, num_nodes - 1), high=num_nodes - 1)
    launcher = TORCHRUN if "TORCHELASTIC_RUN_ID" in os.environ else ENVIRONMENT
    return World(
        rank=rank,
        size=size,
        num_local=num_local,
        local_rank=local_rank,
        node=node,
        num_nodes=num_nodes,
        launcher=launcher,
        is_placed=is_placed,
    )


def _read_slurm() -> World:
    env = os.environ
    if env.get("SLURM_JOB_NAME") in {"bash", "interactive"}:
        return World(0, 1, 1)  # a shell on a node: what is typed there is one process
    size = read_number("SLURM_STEP_NUM_TASKS", read_number("SLURM_NTASKS", low=1), low=1)
    rank = read_number("SLURM_PROCID", high=size - 1)
    nodes = "SLURM_STEP_NUM_NODES" if "SLURM_STEP_NUM_NODES" in env else "SLURM_NNODES"
    if size == 1:
        return World(0, 1, 1)
    num_nodes = read_number(nodes, 1, low=1, high=size)
    if rank == 0 and not any(name in env for name in _OF_SRUN):
        _say_batch_script(size)
        return World(0, 1, 1)
    is_placed = "SLURM_LOCALID" in env
    node = read_number("SLURM_NODEID", 0, high=num_nodes - 1)
    tasks = env.get("SLURM_STEP_TASKS_PER_NODE", env.get("SLURM_TASKS_PER_NODE", ""))
    num_local = tasks_of_node(tasks, node) or max(1, size // num_nodes)
    local_rank = read_number("SLURM_LOCALID", 0, high=max(num_local, size) - 1)
    num_local = max(num_local, local_rank + 1)
    return World(
        rank=rank,
        size=size,
        num_local=num_local,
        local_rank=local_rank,
        node=node,
        num_nodes=num_nodes,
        launcher=SRUN,
        is_placed=is_placed,
    )


@lru_cache(1)
def _say_batch_script(size: int) -> None:
    warn(
        f"SLURM gave this job {size} tasks and the batch script runs as one process: "
        "srun leafkit ... starts one in every task"
    )


def tasks_of_node(told: str, node: int) -> int:
    """Tasks on a node by SLURM's list of them; 0 where that says nothing.

    >>> [tasks_of_node("2(x3),1", node) for node in range(5)]
    [2, 2, 2, 1, 0]
    """
    counts: list[int] = []
    for part in filter(None, told.split(",")):
        count, _, repeats = part.partition("(x")
        times = repeats.rstrip(")") or "1"
        if not (count.isdecimal() and times.isdecimal()) or len(count + times) > 9:
            return 0
        if len(counts) + int(times) > node:
            return int(count)
        counts += [int(count)] * int(times)
    return 0


def meeting_place(world: World) -> tuple[str, int]:
    """Address and port of the first process, where the others meet it.

    Raises:
        UsageError: MASTER_ADDR or MASTER_PORT is missing or wrong, and SLURM does not say either.
    """
    env = os.environ
    if world.launcher == SRUN:
        nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST")
        nodes = nodes or env.get("SLURM_NODELIST", "")
        address = env.get("MASTER_ADDR") or ("127.0.0.1" if world.num_nodes == 1 else "")
        if not address and nodes:
            from lightning.fabric.plugins.environments import SLURMEnvironment

            address = SLURMEnvironment.resolve_root_node_address(nodes)
        if address:
            return address, _slurm_port()
        raise UsageError(
            "SLURM does not say on which nodes the tasks run: SLURM_STEP_NODELIST is not set",
            "start them with srun, or set MASTER_ADDR to the first node's name",
        )
    port = read_number("MASTER_PORT", low=1, high=65_535)
    if not env.get("MASTER_ADDR"):
        raise UsageError(
            "the environment variable MASTER_ADDR is not set",
            "start several processes with torchrun, which sets it",
        )
    return env["MASTER_ADDR"], port


def _slurm_port() -> int:
    """One that all tasks of a step come to by themselves, and other jobs and steps rarely do."""
    if "MASTER_PORT" in os.environ:
        return read_number("MASTER_PORT", low=1, high=65_535)
    job = read_number("SLURM_JOB_ID", 0, high=2**31)
    step = read_number("SLURM_STEP_ID", read_number("SLURM_STEPID", 0, high=2**32), high=2**32)
    return _FIRST_PORT + (job + _PORTS_BETWEEN_STEPS * step) % _NUM_PORTS


def agree(value: T) -> T:
    """The first process's value, for all that have joined: another machine may find another last
    digit, or other files. Every process must ask; what the others give is not looked at.
    """
    import torch  # not for every command that asks for its world

    if read_world().size == 1 or not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def read_number(name: str, default: int | None = None, *, low: int = 0, high: int = 10**6) -> int:
    """A whole number from the environment.

    Raises:
        UsageError: it is not one, is out of bounds, or is missing and has no default.
    """
    found = os.environ.get(name)
    if found is None and default is not None:
        return default
    is_number = found is not None and found.isascii() and found.isdecimal() and len(found) < 11
    if not is_number or not low <= int(found or 0) <= high:
        told = "not set" if found is None else f"{found[:40]!r}"
        raise UsageError(
            f"the environment variable {name} is {told}, not a whole number from {low} to {high}",
            f"let torchrun or srun set it, or unset {name} for a single process",
        )
    return int(found or 0)
