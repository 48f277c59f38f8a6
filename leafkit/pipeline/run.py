"""One run of a recipe: its folders, its processes, which steps are up to date, and how long each
took.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import torch

from leafkit.config import Recipe, to_plain
from leafkit.core.artifact import Manifest, find_changes, publish, read_manifest, refuse_foreign
from leafkit.core.checkpoint_layout import HASHES_FILE, LOCKS_FOLDER, PRECISION_FILE, SHARED_FOLDERS
from leafkit.core.console import log
from leafkit.core.file_hashes import remembered_hashes
from leafkit.core.process.lock import exclusive, in_turn
from leafkit.core.process.meeting import Meeting
from leafkit.core.process.peers import PeerLost
from leafkit.core.swap import recover
from leafkit.core.system import release_memory
from leafkit.core.watch import Watch, watch_tree, watching
from leafkit.embedders.ray_engine import check_ray
from leafkit.models.precision import choose_device, describe_precision, keep_precision
from leafkit.pipeline.check_targets import check_targets
from leafkit.results import CutTexts
from leafkit.train.launch import check_shared_folder, join_processes, meet, say_idle_devices
from leafkit.train.world import World

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
# letters of a source or a model in a folder's name; a fingerprint behind it tells two apart
_MAX_NAME = 100
DONE, UP_TO_DATE = "done", "up to date"  # status of a step


@dataclass
class Run:
    """What every step of a run shares.

    Attributes:
        recipe: resolved.
        device: chosen from the recipe.
        precision: of the arithmetic, likewise.
        world: the processes of this launch.
        steps: name, seconds and status of everything done so far, for the report.
        loaded: collections and models that somebody still uses, by what they are.
        watch: the files that this run read and wrote.
        cuts: what models did not read of texts longer than their limits, for the report.
        meeting: how the processes wait for each other; None where there is one.
        is_alone: no other run writes into the recipe's folder.
    """

    recipe: Recipe
    device: torch.device
    precision: torch.dtype
    world: World
    steps: list[dict[str, Any]] = field(default_factory=list)
    loaded: WeakValueDictionary[str, Any] = field(default_factory=WeakValueDictionary)
    watch: Watch | None = None
    cuts: list[CutTexts] = field(default_factory=list)
    meeting: Meeting | None = None
    is_alone: bool = True

    @property
    def root(self) -> Path:
        """Folder of all artifacts."""
        return Path(self.recipe.checkpoints)

    @property
    def folder(self) -> Path:
        """Folder of this recipe's artifacts."""
        return self.root / self.recipe.name

    @property
    def is_main(self) -> bool:
        """Only the process of rank 0 writes."""
        return self.world.rank == 0

    def with_recipe(self, recipe: Recipe) -> Run:
        """The same run at work on another recipe (the teacher's), by the engine of this one."""
        return replace(self, recipe=replace(recipe, embed=self.recipe.embed))

    def share(self, what: str, load: Callable[[], T]) -> T:
        """What ``load`` gives, or what it gave before where somebody still uses that.

        Args:
            what: everything that decides about it.
            load: gives something that can be referred to weakly; who gets it must not change it.
        """
        found: T | None = self.loaded.get(what)
        if found is None:
            found = load()
            self.loaded[what] = found
        return found

    def note_cut(self, found: CutTexts) -> None:
        """Keep what a model did not read of texts, and say it the first time in this run."""
        if found in self.cuts:
            return
        self.cuts.append(found)
        if found.num_cut:
            log(f"  {found}", style="yellow")

    def step(
        self,
        *,
        name: str,
        folder: Path,
        inputs: DataclassInstance,
        method: str,
        work: Callable[[dict[str, Any]], T],
        save: Callable[[T, Path], None],
        on_every_process: bool = False,
    ) -> Manifest:
        """The artifact of a step: the one that is there if its inputs and its method are the same,
        else a new one.

        Args:
            name: of the step.
            folder: of the artifact.
            inputs: fingerprints and settings that decide about the result, as a frozen dataclass.
            method: identity of the code that gives the result; see ``leafkit.core.method``.
            work: computes the result; may add figures to the dict it gets.
            save: writes the result into a draft folder.
            on_every_process: ``work`` runs on all processes (training does); ``save`` runs on the
                first alone.

        Raises:
            LeafkitError: the work failed, here or on the first process.
        """
        with self.turn(folder):
            started_s, num_before = time.perf_counter(), len(self.steps)
            wanted = plain_inputs(inputs)

            def check() -> list[str] | None:
                recover(folder)
                forced = ["force=true"] if self.recipe.force else None
                changed = forced or find_changes(folder, name, wanted, method=method)
                if changed != []:
                    refuse_foreign(folder)
                return changed

            changed = self.on_main(check)
            if changed == []:
                log(f"{name}: up to date ({folder})", style="dim")
                kept = read_manifest(folder)
                # what it took to make, with what was made for it on the way and is not asked again
                known = {step["name"] for step in self.steps}
                self.steps += [s for s in kept.metrics.get("steps", ()) if s["name"] not in known]
                made_s = kept.metrics.get("seconds")
                self.add_step(name, folder, started_s, is_done=False, made_s=made_s)
                watch_tree(folder)
                return kept
            log(
                f"{name} ..." + (f" (changed: {', '.join(changed)})" if changed else ""),
                style="bold",
            )
            metrics: dict[str, Any] = {}
            results = [work(metrics)] if on_every_process else []

            def finish() -> None:
                recipe = to_plain(self.recipe)
                with publish(folder, name, wanted, recipe, metrics=metrics, method=method) as draft:
                    save(results.pop() if results else work(metrics), draft)
                    nested = self.steps[num_before:]
                    spent_s = time.perf_counter() - started_s - sum(s["spent_s"] for s in nested)
                    metrics["seconds"] = round(spent_s, 3)
                    metrics["steps"] = [
                        step | {"status": UP_TO_DATE, "spent_s": 0.0} for step in nested
                    ]

            self.on_main(finish)
            release_memory()
            # without the vectors that the work had to compute first
            others_s = sum(step["spent_s"] for step in self.steps[num_before:])
            self.add_step(name, folder, started_s + others_s, made_s=metrics.get("seconds"))
            watch_tree(folder)
            return read_manifest(folder)

    @contextlib.contextmanager
    def turn(self, folder: Path) -> Iterator[None]:
        """Wait for other runs to be done with an artifact that recipes share, and keep them waiting
        meanwhile; what is this run's own is held already.
        """
        is_shared = folder.parent.name in SHARED_FOLDERS and folder.parent.parent == self.root
        with contextlib.ExitStack() as stack:
            if is_shared or not self.is_alone:
                file = self.root / LOCKS_FOLDER / f".{folder.parent.name}-{folder.name}"
                self.on_main(lambda: stack.enter_context(in_turn(file, str(folder))))
            yield

    def add_step(
        self,
        name: str,
        folder: Path,
        started_s: float,
        *,
        is_done: bool = True,
        made_s: float | None = None,
        reused: int = 0,
    ) -> None:
        """Note a step for the report: how long it took to make, and how long this run spent on it.

        Args:
            name: of the step.
            folder: of its artifact; steps of other names may ask for the same one.
            started_s: when this run began it, by ``time.perf_counter``.
            is_done: whether this run made it.
            made_s: what it took the run that made it, as its manifest says.
            reused: vectors in it that were made for other texts before.
        """
        spent_s = time.perf_counter() - started_s
        self.steps.append(
            {
                "name": name,
                "artifact": folder.relative_to(self.root).as_posix(),
                "seconds": spent_s if made_s is None else made_s,
                "status": DONE if is_done else UP_TO_DATE,
                "spent_s": spent_s,
            }
            | ({"reused": reused} if reused else {})
        )

    def on_main(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the first process while the others wait; all get its result, or learn
        that it failed.

        Raises:
            PeerLost: on the other processes, when the first one failed.
        """
        if self.world.size == 1:
            return work()
        box: list[Any] = [None, ""]
        error: BaseException | None = None
        if self.is_main:
            try:
                box[0] = work()
            except BaseException as err:
                error = err
                box[1] = str(err) or type(err).__name__
        assert self.meeting is not None
        self.meeting.follow_first()  # however long it works, and then all are here
        torch.distributed.broadcast_object_list(box, src=0)
        if error is not None:
            raise error
        if box[1]:
            raise PeerLost.first_failed(box[1])
        return box[0]

    def total(self, number: int) -> int:
        """Sum of what all processes give; waits for all of them.

        Raises:
            LeafkitError: a process is lost.
        """
        if self.meeting is None or self.world.size == 1:
            return number
        return self.meeting.total(number)

    def look(self) -> None:
        """Raise a LeafkitError where another process of the launch is lost."""
        if self.meeting is not None:
            self.meeting.look()


def _keep_precision(run: Run) -> tuple[torch.dtype, bool]:
    """``keep_precision``, by one run at a time: of two that begin together both have the choice of
    the first.
    """
    name, file = run.recipe.precision, run.root / PRECISION_FILE
    is_chosen = name == "auto"
    with (
        in_turn(run.root / LOCKS_FOLDER / PRECISION_FILE, "precision=auto")
        if is_chosen
        else contextlib.nullcontext()
    ):
        return keep_precision(name, run.device, file)


def plain_inputs(inputs: DataclassInstance) -> dict[str, Any]:
    """A step's inputs as its manifest keeps them: by field, as JSON has them.

    Raises:
        TypeError: a field holds what JSON cannot say; it could not be compared with the next run's.
    """
    plain: dict[str, Any] = json.loads(json.dumps(asdict(inputs)))
    return plain


def folder_name(text: str) -> str:
    """A source or model reference as a folder name."""
    return (
        re.sub(r"[^A-Za-z0-9.-]+", "-", text.rstrip("/").split("/")[-1].removeprefix("builtin:"))
        .strip("-.")[-_MAX_NAME:]
        .lstrip("-.")
        or "unnamed"
    )


@contextlib.contextmanager
def open_run(recipe: Recipe, *, trains: bool = True, is_alone: bool = True) -> Iterator[Run]:
    """A run that alone may write what is its own, in a process group where there are several
    processes.

    Corpora, vector stores and measurements are shared by recipes; runs take turns at each.

    Args:
        recipe: what is done.
        trains: it may make teachers and students, which other recipes are made of: one such run at
            a time in a checkpoints folder. One that measures finished models holds its recipe's
            folder alone, and goes beside a run that trains.
        is_alone: False goes beside runs of the same recipe that say so too: they take turns at its
            artifacts, and share the work on a vector store.

    Raises:
        LeafkitError: another run is at work there, or the folder cannot be written.
        UsageError: the device is not there.
        MissingExtra: embed.engine=ray without Ray.
    """
    device = choose_device(recipe.device)
    if recipe.embed.engine == "ray":
        check_ray()  # before hours of work, and not when vectors are due
    world = join_processes(device.type)
    # another one is set below, where something must be asked of the checkpoints folder
    run = Run(recipe, device, torch.float32, world, is_alone=is_alone)
    with contextlib.ExitStack() as stack:
        run.meeting = stack.enter_context(meet(world))
        for place in (run.root, run.folder) if trains else (run.folder,):
            held = exclusive(place, is_shared=not is_alone)
            run.on_main(partial(stack.enter_context, held))
        check_shared_folder(run.root, world)
        stack.enter_context(remembered_hashes(run.root / HASHES_FILE, is_kept=run.is_main))
        run.watch = stack.enter_context(watching(run.root))
        run.on_main(lambda: check_targets(recipe))
        run.precision, is_kept = run.on_main(lambda: _keep_precision(run))
        numbers = describe_precision(recipe.precision, device, run.precision, is_kept)
        log(
            f"{recipe.name}: {device.type}, {numbers}, {torch.get_num_threads()} threads, "
            f"{world.size} process(es)"
        )
        say_idle_devices(device.type, world)
        yield run
