"""How the processes of a launch come together, and what Lightning is told of them."""

from __future__ import annotations

import contextlib
import datetime
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import ClusterEnvironment

from leafkit.core.console import log
from leafkit.core.devices import KINDS, DeviceKind
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.process.meeting import Meeting
from leafkit.core.process.peers import DONE, FAILED, STOPPED, PeerLost, Peers
from leafkit.core.process.stop_signals import Terminated
from leafkit.train.world import SRUN, TORCHRUN, World, meeting_place, read_world

# the longest that a collective of the training may take; who waits for another's work is in none
PROCESS_TIMEOUT = datetime.timedelta(hours=6)
_MEETING_TIMEOUT = datetime.timedelta(minutes=5)
_SEEN_WITHIN_S = 15.0  # what is written on one node, on the others
_meetings = count()  # of this process, and so of all of a launch


class LaunchEnvironment(ClusterEnvironment):
    """The launch as ``read_world`` sees it, for Lightning, which would read it by rules of its own:
    it wants equally many processes on every node, SLURM's variables or torchrun's alone, and under
    SLURM it queues jobs again.

    Args:
        world: of this process.
    """

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Of the first process."""
        return meeting_place(self._world)[0]

    @property
    def main_port(self) -> int:
        """Of the first process."""
        return meeting_place(self._world)[1]

    @staticmethod
    def detect() -> bool:
        """It is given, not detected."""
        return False

    def world_size(self) -> int:
        """Processes over all nodes."""
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """Lightning multiplies nodes by devices; the launcher knows better."""

    def global_rank(self) -> int:
        """Of this process."""
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """The launcher's stays."""

    def local_rank(self) -> int:
        """On this node."""
        return self._world.local_rank

    def node_rank(self) -> int:
        """Of this node."""
        return self._world.node


def join_processes(device_type: str) -> World:
    """Bring the processes of the launch together; the world with every process in its place. One
    process, or processes that are together already, need nothing.

    Raises:
        UsageError: the launch does not say where to meet, or has more processes on a node than that
            has devices.
        LeafkitError: not all processes came.
    """
    world, kind = read_world(), KINDS[device_type]
    if world.is_placed:  # before anything asks for a device
        _take_device(kind, world)
    if world.size > 1 and not torch.distributed.is_initialized():
        address, port = meeting_place(world)
        if world.launcher == TORCHRUN:  # its agent is the meeting place
            torch.distributed.init_process_group(
                kind.backend, timeout=PROCESS_TIMEOUT, rank=world.rank, world_size=world.size
            )
        else:
            torch.distributed.init_process_group(
                kind.backend,
                store=_meet(world, address, port),
                timeout=PROCESS_TIMEOUT,
                rank=world.rank,
                world_size=world.size,
            )
    if world.size > 1:
        world = _place(world)
    _take_device(kind, world)
    return world


def _meet(world: World, address: str, port: int) -> Any:
    if world.launcher == SRUN:
        # libraries that form groups of their own look for these
        os.environ.setdefault("MASTER_ADDR", address)
        os.environ.setdefault("MASTER_PORT", str(port))
    try:
        return torch.distributed.TCPStore(  # type: ignore[attr-defined]  # torch exports it so
            address, port, world.size, is_master=world.rank == 0, timeout=_MEETING_TIMEOUT
        )
    except (RuntimeError, ValueError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise LeafkitError(
            f"process {world.rank} of {world.size} did not meet the others at {address}:{port} "
            f"within {_MEETING_TIMEOUT.seconds // 60} minutes: {reason[:200]}",
            "all processes must be started, and reach the first one's address; MASTER_PORT=N "
            "names another port",
        ) from err


@contextlib.contextmanager
def meet(world: World) -> Iterator[Meeting | None]:
    """The processes as they wait for each other, who end together where one is lost; None for one
    process. At the end of the body each waits for all.

    Args:
        world: after ``join_processes``.

    Raises:
        PeerLost: another process failed, was killed or stopped; the message names it.
        LeafkitError: a process cannot be reached.
    """
    if world.size == 1:
        yield None
        return
    whole = torch.distributed.distributed_c10d._get_default_store()
    prefix = f"leafkit/{next(_meetings)}"
    store = torch.distributed.PrefixStore(prefix, whole)  # type: ignore[attr-defined]
    peers = Peers(world.rank, world.size)
    meeting = Meeting(store, world.rank, world.size, peers.look)
    if world.rank == 0:
        peers.listen(lambda told: store.set("peers", told), meeting_place(world)[0])
    else:
        store.wait(["peers"], _MEETING_TIMEOUT)
        peers.connect(store.get("peers").decode())
    try:
        yield meeting
        meeting.leave()
    except PeerLost:
        # another one's end is no failure of this one: who hears of it would name the wrong one
        peers.close(DONE)
        raise
    except BaseException as err:
        is_theirs = peers.explains(err)
        is_stop = isinstance(err, KeyboardInterrupt | Terminated)
        peers.close(STOPPED if is_stop else FAILED, str(err) or type(err).__name__)
        if is_theirs:
            raise PeerLost.of(peers) from err
        raise
    peers.close(DONE)


def _place(world: World) -> World:
    """Number the processes of each node by their ranks, where the launcher has not done so."""
    found: list[tuple[str, bool]] = [("", True)] * world.size
    says_rank = world.is_placed or "LOCAL_RANK" in os.environ or "SLURM_LOCALID" in os.environ
    torch.distributed.all_gather_object(found, (socket.gethostname(), world.is_placed))
    if all(is_placed for _, is_placed in found):
        return world
    hosts = [host for host, _ in found]
    names = list(dict.fromkeys(hosts))
    here = hosts[world.rank]
    placed = World(
        rank=world.rank,
        size=world.size,
        num_local=Counter(hosts)[here],
        local_rank=world.local_rank if says_rank else hosts[: world.rank].count(here),
        node=names.index(here),
        num_nodes=len(names),
        launcher=world.launcher,
    )
    # whatever reads the environment from now on finds the same
    os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"] = (
        str(placed.local_rank),
        str(placed.num_local),
    )
    os.environ["GROUP_RANK"], os.environ["GROUP_WORLD_SIZE"] = (
        str(placed.node),
        str(placed.num_nodes),
    )
    return placed


def _take_device(kind: DeviceKind, world: World) -> None:
    """Give this process the device of its number, where a machine has several.

    Raises:
        UsageError: there are more processes on this node than devices.
    """
    if not kind.visible:
        return
    count = kind.count()
    if world.local_rank >= count:
        raise UsageError(
            f"process {world.rank} is number {world.local_rank} of its node, {socket.gethostname()}"
            f", counted from 0, and {count} {kind.title}(s) can be seen there",
            f"start one process per {kind.title}; {kind.visible} may hide some",
        )
    kind.take(world.local_rank)


def check_shared_folder(folder: Path, world: World) -> None:
    """See that all processes look at the same folder: the first one leaves a word there, and the
    others find it.

    Args:
        folder: there on the first process.
        world: after ``join_processes``.

    Raises:
        LeafkitError: on every process, where one does not find it; all that do not are named.
    """
    if world.size == 1:
        return
    box: list[Any] = [secrets.token_hex(16) if world.rank == 0 else ""]
    torch.distributed.broadcast_object_list(box, src=0)
    file = folder / f".{box[0]}.meeting"
    found: list[tuple[str, bool]] = [("", True)] * world.size
    try:
        if world.rank == 0:
            file.touch()
        torch.distributed.barrier()
        torch.distributed.all_gather_object(found, (socket.gethostname(), _appears(file)))
    finally:
        if world.rank == 0:
            file.unlink(missing_ok=True)
    blind = [f"{rank} on {host}" for rank, (host, is_seen) in enumerate(found) if not is_seen]
    if blind:
        raise LeafkitError(
            f"process(es) {', '.join(blind[:8])} do not see what process 0 on {found[0][0]} wrote "
            f"into {folder.absolute()}",
            "checkpoints must lie on a file system that all nodes share, under the same path: "
            "checkpoints=DIR",
        )


def _appears(file: Path) -> bool:
    """Whether a file is there, or is soon: network file systems remember what was not."""
    deadline_s = time.monotonic() + _SEEN_WITHIN_S
    while not file.exists():
        if time.monotonic() > deadline_s:
            return False
        with contextlib.suppress(OSError):
            os.listdir(file.parent)  # asks the server again
        time.sleep(0.1)
    return True


def say_idle_devices(device_type: str, world: World) -> None:
    """Say how to use the other devices, where one process runs and there are several."""
    kind = KINDS[device_type]
    count = kind.count() if kind.visible and world.size == 1 else 1
    if count > 1:
        log(
            f"  1 of {count} {kind.title}s is used: torchrun --nproc-per-node {count} "
            "-m leafkit.cli ... uses all",
            style="yellow",
        )
