"""Train a teacher in memory: stages and pairs in, an embedder out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from leafkit.config import DataConfig, Recipe, StageConfig
from leafkit.config.validate import find_problems
from leafkit.core.errors import UsageError
from leafkit.data.pair_records import rows_of_pairs
from leafkit.data.training_rows import TrainingRows
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.precision import choose_device, choose_precision
from leafkit.pipeline.model_in_memory import identify_weights
from leafkit.pipeline.teacher.average import HeldOut, average_stage
from leafkit.pipeline.teacher.memory_library import MemoryLibrary
from leafkit.pipeline.teacher.stage import train_stage
from leafkit.pipeline.teacher.task import StageTask
from leafkit.train.trainer_options import TrainerOptions
from leafkit.train.world import read_world

Pairs = Sequence[Mapping[str, Any]]


def train_teacher(
    stages: Mapping[str, StageConfig] | Sequence[StageConfig],
    pairs: Pairs = (),
    *,
    held_out: Pairs = (),
    data: DataConfig | None = None,
    seed: int = 42,
    device: str = "auto",
    precision: str = "auto",
    trainer: TrainerOptions | None = None,
) -> TransformerEmbedder:
    """Train a teacher through one or more stages, without a checkpoints folder.

    Args:
        stages: by name, in order; a list's are called stage1, stage2, ... A stage starts from
            another with ``init="stage:NAME"``, mines with one, or averages several (``soup``).
        pairs: rows {"query", "positives", "negatives"?, "instruction"?, "task"?} of the stages
            that name no ``sources``.
        held_out: pairs that a soup without weights weighs its members by.
        data: where texts are cut, how many pseudo-texts anchor the start; None takes the defaults.
        seed: of everything random.
        device: auto, cpu, cuda, npu or mps.
        precision: auto, float32 or bf16.
        trainer: loggers, callbacks, strategy and gradient accumulation.

    Returns:
        The last stage's model; ``leafkit.distill(teacher=...)`` takes it.

    Raises:
        UsageError: a setting is out of range, or the pairs are of another form, or none is used.
        LeafkitError: a model or source cannot be read, or a loss is not finite.
    """
    named = (
        dict(stages)
        if isinstance(stages, Mapping)
        else {f"stage{number}": stage for number, stage in enumerate(stages, 1)}
    )
    data = data or DataConfig()
    _check(named, data, has_pairs=bool(len(pairs)))
    rows = rows_of_pairs("pairs", pairs) if len(pairs) else None
    weighing = _texts_of(rows_of_pairs("held_out", held_out)) if len(held_out) else []
    chosen = choose_device(device)
    library = MemoryLibrary(data)
    encoder = None
    for name, config in named.items():
        task = StageTask(
            name,
            config,
            data,
            library=library,
            device=chosen,
            precision=choose_precision(precision, chosen),
            world=read_world(),
            seed=seed,
            pairs=rows,
            options=trainer or TrainerOptions(),
        )
        if config.soup.members:
            encoder = average_stage(task, weighing[: config.soup.num_rows], "held_out").encoder
        else:
            encoder = train_stage(task).encoder
        encoder.fingerprint = identify_weights(encoder)
        library.stages[name] = encoder
    assert encoder is not None, "there is a stage"
    return task.embedder(encoder)


def _texts_of(rows: TrainingRows) -> list[HeldOut]:
    """Query and positive of every row, with its instruction and task."""
    positives = [rows.documents[i] for i in rows.positives]
    columns = zip(rows.queries, positives, rows.instructions, rows.tasks, strict=True)
    return [HeldOut(*row) for row in columns]


def _check(stages: Mapping[str, StageConfig], data: DataConfig, *, has_pairs: bool) -> None:
    """Refuse what a recipe would be refused for, and pairs that nobody reads.

    Raises:
        UsageError: naming every problem.
    """
    if not stages:
        raise UsageError("there is no stage to train", 'train_teacher({"tune": StageConfig(...)})')
    recipe = Recipe(name="teacher", data=data, stages=dict(stages))
    problems = [f"{key}: {what}" for key, what in find_problems(recipe)]
    reading = [n for n, s in stages.items() if not s.sources and not s.soup.members]
    if reading and not has_pairs:
        problems.append(f"stage {reading[0]} names no sources and there are no pairs")
    if has_pairs and not reading:
        problems.append("every stage names its own sources: nobody reads the pairs")
    if problems:
        raise UsageError("\n".join(problems), "see leafkit.StageConfig")
