"""``leafkit teach`` and ``leafkit mine``: each stage of a recipe is loaded, trained and saved as an
artifact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from leafkit.config import StageConfig, to_plain
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import LOSSES_FILE, SOURCES_FILE
from leafkit.core.errors import UsageError
from leafkit.core.method import method_of
from leafkit.models.checkpoint import write_encoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.embed import load_tokens
from leafkit.pipeline.run import Run, plain_inputs
from leafkit.pipeline.teacher.average import HeldOut, average_stage
from leafkit.pipeline.teacher.mine import mine_sources
from leafkit.pipeline.teacher.recipe_library import RecipeLibrary
from leafkit.pipeline.teacher.soft_labels import BM25, ROWS
from leafkit.pipeline.teacher.sources import identify_sources, read_sources
from leafkit.pipeline.teacher.stage import TrainedStage, train_stage
from leafkit.pipeline.teacher.task import StageTask
from leafkit.pipeline.training_logs import forget_state, keep_logs, recipe_options


@dataclass(frozen=True, slots=True)
class TeacherStageInputs:
    """What decides about a stage that trains."""

    config: dict[str, Any]
    start: str  # identity of the start model
    models: dict[str, str]  # identities of those that mine, score and choose batches
    sources: dict[str, Any]
    seed: int
    tokens: list[int]  # cuts of queries and documents
    pseudo_texts: int
    precision: str
    accumulated: int  # batches per optimizer step


@dataclass(frozen=True, slots=True)
class AverageInputs:
    """What decides about a stage that averages."""

    soup: dict[str, Any]
    members: list[str]  # their identities
    loss: list[float]  # what the held-out loss depends on; empty with given weights
    corpus: str
    precision: str


def run_teach(run: Run) -> Path:
    """Run every stage of the recipe and return the folder of the last one: the teacher.

    Raises:
        UsageError: the recipe has no stages.
        LeafkitError: a stage failed.
    """
    if not run.recipe.stages:
        raise UsageError(
            f"recipe {run.recipe.name} trains no teacher: it has no stages", "recipe=kalm-mini has"
        )
    folder = run.folder
    for name, config in run.recipe.stages.items():
        folder = run_stage(run, name, config)
    return folder


def run_mine(run: Run) -> list[Path]:
    """Mine the rows of every stage that mines and return the artifacts' folders; earlier stages are
    trained where needed.

    Raises:
        UsageError: no stage of the recipe mines.
    """
    folders: list[Path] = []
    mining = [name for name, config in run.recipe.stages.items() if config.mining.model]
    if not mining:
        raise UsageError(
            f"recipe {run.recipe.name} has no stage that mines", "set stages.NAME.mining.model"
        )
    for name, config in run.recipe.stages.items():
        if name in mining:
            library = RecipeLibrary(run)
            task = recipe_task(run, name, config, library)
            mine_sources(task, read_sources(task))
            folders += library.mined
        if name == mining[-1]:
            break
        run_stage(run, name, config)
    return folders


def run_stage(run: Run, name: str, config: StageConfig) -> Path:
    """One stage, of either kind."""
    step = _average_step if config.soup.members else _training_step
    return step(run, name, config)


def recipe_task(
    run: Run, name: str, config: StageConfig, library: RecipeLibrary | None = None
) -> StageTask:
    """A stage of the recipe, ready to be trained."""
    return StageTask(
        name,
        config,
        run.recipe.data,
        library=library or RecipeLibrary(run),
        device=run.device,
        precision=run.precision,
        world=run.world,
        seed=run.recipe.seed,
        options=recipe_options(run, name),
        tokenize=partial(load_tokens, run),
    )


def _training_step(run: Run, name: str, config: StageConfig) -> Path:
    folder, task = run.folder / name, recipe_task(run, name, config)
    data = run.recipe.data
    named = [config.mining.model, *config.soft_labels.models]
    if config.batching == "neighbors":
        named.append(config.neighbor_model)
    inputs = TeacherStageInputs(
        config=to_plain(config),
        start=task.identify(config.init),
        models={m: task.identify(m) for m in named if m and m not in {ROWS, BM25}},
        sources=identify_sources(task),
        seed=task.seed,
        tokens=[data.max_query_tokens, data.max_document_tokens],
        pseudo_texts=data.num_pseudo_texts,
        precision=str(task.precision),
        accumulated=task.options.accumulate_grad_batches,
    )
    method = method_of(train_stage, StageTask, RecipeLibrary)
    identity = fingerprint([plain_inputs(inputs), method])
    task = replace(task, options=recipe_options(run, name, identity=identity))

    def work(metrics: dict[str, Any]) -> TrainedStage:
        trained = train_stage(task)
        metrics.update(trained.figures)
        return trained

    def save(trained: TrainedStage, draft: Path) -> None:
        _save_model(trained, draft)
        (draft / LOSSES_FILE).write_text(json.dumps(trained.losses))
        sources = json.dumps(trained.sources, indent=1, ensure_ascii=False)
        (draft / SOURCES_FILE).write_text(sources, encoding="utf-8")
        keep_logs(run, name, draft)

    run.step(
        name=name,
        folder=folder,
        inputs=inputs,
        method=method,
        work=work,
        save=save,
        on_every_process=True,
    )
    forget_state(run, name)
    return folder


def _average_step(run: Run, name: str, config: StageConfig) -> Path:
    folder, task = run.folder / name, recipe_task(run, name, config)
    data, settings = run.recipe.data, config.soup
    corpus = None if settings.weights else load_corpus(run, data.corpus)
    decides = [config.loss.temperature, data.max_query_tokens, data.max_document_tokens, task.seed]
    inputs = AverageInputs(
        soup=to_plain(settings),
        members=[task.identify(member) for member in settings.members],
        loss=decides if corpus else [],
        corpus=corpus.fingerprint if corpus else "",
        precision=str(run.precision),
    )

    def work(metrics: dict[str, Any]) -> TrainedStage:
        found = corpus.collection.pairs("validation")[: settings.num_rows] if corpus else []
        documents = corpus.collection.documents if corpus else []
        held_out = [
            HeldOut(query.text, documents[at[0]].full_text, query.instruction, query.task)
            for query, at in found
        ]
        origin = f"the validation split of {corpus.collection.name}" if corpus else ""
        averaged = average_stage(task, held_out, origin)
        metrics.update(averaged.figures)
        return averaged

    run.step(
        name=name,
        folder=folder,
        inputs=inputs,
        method=method_of(average_stage, StageTask, RecipeLibrary),
        work=work,
        save=_save_model,
    )
    return folder


def _save_model(trained: TrainedStage, draft: Path) -> None:
    encoder = trained.encoder
    space = {"kind": "teacher", "dim": encoder.dim, "mrl_dims": list(encoder.spec.mrl_dims)}
    write_encoder(encoder, draft, space)
