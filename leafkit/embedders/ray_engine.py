"""A vector store filled by the workers of a Ray cluster: a task for each missing shard.

Workers hold the encoder and give vectors back; this process alone writes, so that the workers need
no file system in common, and the store's commit records are all that a run that ends early goes on
from. A worker that dies gives its shard back; where the cluster has room, others are started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from leafkit.core.checkpoint_layout import shard_claim_file
from leafkit.core.console import log, progress_bar
from leafkit.core.devices import kind_of
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.core.method import method_of
from leafkit.core.process.lock import claimed
from leafkit.core.process.stop_signals import NUMBERS
from leafkit.core.version import __version__
from leafkit.data.stored.kept_rows import KeptRows
from leafkit.data.vector_store import Shard, VectorStore
from leafkit.embedders.fill_store import ShardPart, drop_claims
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.protocol import RefusedText
from leafkit.embedders.transformer import TransformerEmbedder

_LOOK_EVERY_S = 1.0  # at what has ended
_GROW_EVERY_S = 5.0  # look for room in the cluster
_SAY_AFTER_S = 60.0  # without a worker
_MOST_DEATHS = 5  # of workers at one shard, before it is blamed


@dataclass(frozen=True, slots=True)
class _Refused:
    """A worker's error, as plain data: not every exception can be sent."""

    message: str
    hint: str
    text: tuple[int, str, str] | None = None  # number, text and reason of a text without a vector


class _Worker:
    """Holds an encoder in a process of the cluster.

    Args:
        encoder: as it was given.
        device: kind of device.
        precision: of the arithmetic.
    """

    def __init__(self, encoder: Any, device: str, precision: torch.dtype) -> None:
        torch.set_num_threads(1)
        self._model = make_embedder(encoder, device, precision)

    def ready(self) -> str:
        """What computes here, once the encoder is there."""
        return _made_by()

    def embed(self, texts: Sequence[str], role: str, max_tokens: int) -> np.ndarray | _Refused:
        """(n, D) float32 vectors of a shard's texts."""
        try:
            return self._model.embed(texts, role, max_tokens)
        except RefusedText as err:
            return _Refused(str(err), err.hint, (err.number, err.text, err.what))
        except LeafkitError as err:
            return _Refused(str(err), err.hint)


def _made_by() -> str:
    """Version and method of what gives the vectors, equal wherever they would be equal."""
    return f"{__version__} {method_of(TransformerEmbedder)}"


def check_ray() -> None:
    """Raise a MissingExtra where Ray is not installed; it is not imported, which takes a while."""
    if find_spec("ray") is None:
        raise MissingExtra("ray", "ray", "embed.engine=ray")


def fill_by_ray(
    store: VectorStore,
    model: TransformerEmbedder,
    texts: Sequence[str],
    role: str,
    *,
    title: str,
    missing: Sequence[Shard],
    num_workers: int = 0,
    kept: KeptRows | None = None,
) -> int:
    """``fill_store`` by workers of the Ray cluster that is there (RAY_ADDRESS names one), or of one
    that is started on this machine for as long as it takes.

    Args:
        store: made for these texts and ``model.space(role, ...)``.
        model: whose encoder, device and precision the workers get.
        texts: the store's texts; a worker gets those of its shard.
        role: "query" or "document".
        title: what the progress bar says.
        missing: the shards that the store lacks.
        num_workers: at most; 0 takes as many as the cluster has devices of the model's kind.
        kept: vectors of these texts that other stores hold, which are copied.

    Returns:
        Number of vectors committed by this process. What another command has claimed is left to it.

    Raises:
        MissingExtra: Ray is not installed.
        RefusedText: a text has no vector; its number counts all texts.
        LeafkitError: the cluster cannot be reached, workers die at one shard again and again, or a
            vector is not finite.
    """
    check_ray()
    import ray

    with _cluster(ray):
        crew = _Crew(ray, model, num_workers)
        with progress_bar(title, sum(s.stop - s.start for s in missing), "texts") as bar:
            bar.advance(0)  # other commands may have claimed all of it
            filling = _Filling(store, texts, role, kept, bar.advance)
            try:
                num_done = filling.run(crew, missing)
            finally:
                filling.release()
                crew.dismiss()
    drop_claims(store, missing)
    return num_done


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connected to a cluster; left at the end, and ended where it was started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    # newer versions leave a worker's devices alone where it asks for none
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in NUMBERS}
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise LeafkitError(
            f"the Ray cluster cannot be reached: {reason[:300]}",
            "ray status tells whether there is one; RAY_ADDRESS=HOST:PORT names it, and unset, "
            "one is started on this machine",
        ) from err
    try:
        for number, handler in handlers.items():  # a command handles its own signals
            with contextlib.suppress(ValueError, TypeError):
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


class _Crew:
    """Workers of a cluster, as many as it has room for.

    Args:
        ray: the package.
        model: whose encoder they get.
        limit: of their number; 0 is as many as there are devices.
    """

    def __init__(self, ray: Any, model: TransformerEmbedder, limit: int) -> None:
        self.ray, self._limit = ray, limit
        told = ray.exceptions
        # a worker, its node or what it gave is gone
        self.lost = (
            told.RayActorError,
            told.OutOfMemoryError,
            told.NodeDiedError,
            told.ObjectLostError,
        )
        kind = kind_of(model.device)
        self._resource = "CPU" if kind.is_host else "NPU" if kind.name == "npu" else "GPU"
        own: dict[str, Any] = {"num_cpus": 1}
        if self._resource == "GPU":
            own["num_gpus"] = 1
        elif self._resource == "NPU":
            own["resources"] = {"NPU": 1}
        precision = getattr(torch, model.precision.removeprefix("torch."))
        encoder = ray.put(model.encoder)  # once for all
        remote = ray.remote(**own, max_restarts=0)(_Worker)
        self._make: Callable[[], Any] = lambda: remote.remote(encoder, kind.name, precision)
        self.starting: dict[Any, Any] = {}  # what says that a worker is ready -> the worker
        self.free: list[Any] = []
        self._workers: list[Any] = []
        self._num, self._grown_s = 0, -_GROW_EVERY_S

    def grow(self, num_wanted: int) -> None:
        """Start workers where there is room for them; a cluster may have grown."""
        if time.monotonic() - self._grown_s < _GROW_EVERY_S and self._num:
            return
        self._grown_s = time.monotonic()
        room = int(self.ray.cluster_resources().get(self._resource, 0))
        idle = len(self.free) + len(self.starting)
        room = min(self._limit or room, room, num_wanted + self._num - idle)
        for _ in range(room - self._num):
            worker = self._make()
            self._workers.append(worker)
            self.starting[worker.ready.remote()] = worker
            self._num += 1
        if not self._num:
            raise LeafkitError(
                f"the Ray cluster has no {self._resource} for a worker",
                "add a node to it, or choose another device=",
            )

    def lose(self) -> None:
        """One has died; there may be room for another."""
        self._num -= 1

    def dismiss(self) -> None:
        """End all workers: each would hold its core or GPU as long as anything refers to it."""
        for worker in self._workers:
            self.ray.kill(worker)


@dataclass(slots=True)
class _Filling:
    """Shards on their way into a store."""

    store: VectorStore
    texts: Sequence[str]
    role: str
    kept: KeptRows | None
    advance: Callable[[int], None]
    claims: dict[int, contextlib.ExitStack] = field(default_factory=dict)
    parts: dict[int, ShardPart] = field(default_factory=dict)
    deaths: Counter[int] = field(default_factory=Counter)
    num_done: int = 0

    def run(self, crew: _Crew, missing: Sequence[Shard]) -> int:
        """Number of vectors committed."""
        queue = deque(missing)
        busy: dict[Any, tuple[Any, Shard, ShardPart]] = {}
        started_s, is_said = time.monotonic(), False
        while queue or busy:
            if queue:
                crew.grow(len(queue))
            while crew.free and queue:
                shard = queue.popleft()
                part = self._begin(shard)
                if part is None:
                    continue
                if not part.new:
                    self._commit(shard, part.join(None))
                    continue
                worker = crew.free.pop()
                told = list(part.new), self.role, self.store.space.max_tokens
                busy[worker.embed.remote(*told)] = worker, shard, part
            waited = [*crew.starting, *busy]
            if not waited:
                continue
            if not (busy or is_said) and time.monotonic() - started_s > _SAY_AFTER_S:
                is_said = True
                log("  the Ray cluster has started no worker yet: others may hold its room")
            ended, _ = crew.ray.wait(waited, num_returns=1, timeout=_LOOK_EVERY_S)
            for one in ended:
                self._take(crew, one, busy, queue)
        return self.num_done

    def _begin(self, shard: Shard) -> ShardPart | None:
        """Claim a shard; None where another command has it, or had."""
        claim = self.claims.pop(shard.number, None) or contextlib.ExitStack()
        file = self.store.folder / shard_claim_file(shard.number)
        if self.deaths[shard.number] == 0 and claim.enter_context(claimed(file)):
            claim.close()
            return None
        self.claims[shard.number] = claim
        if self.store.has(shard):
            self.claims.pop(shard.number).close()
            return None
        if shard.number not in self.parts:  # what is copied counts once, however many die at it
            self.parts[shard.number] = ShardPart(shard, self.store, self.texts, self.kept)
        return self.parts[shard.number]

    def _take(self, crew: _Crew, one: Any, busy: dict[Any, Any], queue: deque[Shard]) -> None:
        """What a worker gave, or that it has died."""
        if one in crew.starting:
            worker = crew.starting.pop(one)
            try:
                made_by = crew.ray.get(one)
            except crew.lost as err:
                self._blame(-1, "workers die before their encoder is loaded", err)
                crew.lose()
                return
            if made_by != _made_by():
                raise LeafkitError(
                    "a worker of the Ray cluster has another leafkit than this process: "
                    f"{made_by}, not {_made_by()}",
                    "install the same version on all nodes",
                )
            self.deaths[-1] = 0
            crew.free.append(worker)
            return
        worker, shard, part = busy.pop(one)
        try:
            found = crew.ray.get(one)
        except crew.lost as err:
            if isinstance(err, crew.ray.exceptions.ObjectLostError):
                crew.free.append(worker)  # what it gave is lost, not the worker
            else:
                crew.lose()
            self._blame(shard.number, f"workers die at the texts from {shard.start} on", err)
            log(f"  a worker has died; {shard.stop - shard.start:,} texts go to another")
            queue.appendleft(shard)
            return
        if isinstance(found, _Refused):
            if found.text is None:
                raise LeafkitError(found.message, found.hint)
            raise part.refusal(*found.text, found.hint)
        crew.free.append(worker)
        self._commit(shard, part.join(found))

    def _blame(self, number: int, what: str, err: Exception) -> None:
        self.deaths[number] += 1
        if self.deaths[number] >= _MOST_DEATHS:
            said = [line.strip() for line in str(err).splitlines() if line.strip()]
            reason = f"; the last one: {said[-1][:300]}" if said else ""
            raise LeafkitError(
                f"{_MOST_DEATHS} {what}{reason}",
                "the system may kill them for their memory: fewer workers with "
                "embed.num_workers=N, or see Ray's own logs",
            )

    def _commit(self, shard: Shard, vectors: np.ndarray) -> None:
        self.store.write(shard, vectors)
        self.claims.pop(shard.number).close()
        self.parts.pop(shard.number, None)
        self.num_done += shard.stop - shard.start
        self.advance(shard.stop - shard.start)

    def release(self) -> None:
        """Let others have what was begun."""
        for claim in self.claims.values():
            claim.close()
        self.claims.clear()
