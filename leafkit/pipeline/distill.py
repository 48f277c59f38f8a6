"""The recipe's distillation: corpus, teacher, teacher vectors and their diagnosis, student, index,
benchmark and inheritance. The method itself is in ``leafkit.pipeline.student``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from leafkit.config import Recipe, to_plain
from leafkit.config.effects import find_missing
from leafkit.config.teacher_recipe import load_teacher_recipe
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import LOSSES_FILE, STUDENT
from leafkit.core.console import log
from leafkit.core.disk_space import require_space
from leafkit.core.method import method_of
from leafkit.data.sources import read_source, source_fingerprint
from leafkit.embedders.kept_endpoint import keep_endpoint
from leafkit.embedders.prefix import precomputed_of, whole_dim
from leafkit.evaluation.diagnosis.findings import INHERITABLE
from leafkit.index.vectors import Vectors
from leafkit.models.checkpoint import identify_model, load_encoder
from leafkit.models.encoder_protocol import save_model
from leafkit.models.room import LITTLE, check_room
from leafkit.models.tokenization import count_prompt
from leafkit.pipeline.check_targets import check_targets
from leafkit.pipeline.corpus import Corpus, load_corpus, order_by_start
from leafkit.pipeline.document_index import write_index
from leafkit.pipeline.embed import load_tokens, load_vectors
from leafkit.pipeline.evaluate.bench import run_bench
from leafkit.pipeline.evaluate.diagnose import run_diagnose
from leafkit.pipeline.evaluate.inherit import run_inherit
from leafkit.pipeline.model_handle import ModelHandle, load_teacher
from leafkit.pipeline.pair_folder import describe_student_space
from leafkit.pipeline.run import Run, plain_inputs
from leafkit.pipeline.student.candidates import check_scores
from leafkit.pipeline.student.head import check_enough_texts, check_head
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.start import check_start, load_start
from leafkit.pipeline.student.static import distill_static
from leafkit.pipeline.student.targets import (
    Distillation,
    Distilled,
    Embed,
    Target,
    TokenLimits,
    embed_groups,
    hash_contents,
)
from leafkit.pipeline.student.text_groups import choose_texts
from leafkit.pipeline.student.transformer import distill_transformer
from leafkit.pipeline.student.unjudged_test_set import choose_held_out, unseen_texts
from leafkit.pipeline.student.validation import relevant_documents
from leafkit.pipeline.teacher.teach import run_teach
from leafkit.pipeline.training_logs import forget_state, keep_logs, recipe_options
from leafkit.train.student_terms import check_losses

_SPECIALS = 4  # special tokens around a text, at most


@dataclass(frozen=True, slots=True)
class StudentInputs:
    """What decides about a student."""

    config: Mapping[str, Any]
    start: str  # identity of the model that it begins as, or takes its tokenizer from
    teacher: str
    corpus: str
    seed: int
    precision: str  # of training; "" for a table, which trains in float32
    tokens: list[int]  # cuts of queries and documents
    texts: list[int]  # numbers of texts, by target
    content: list[str]  # hashes of them: what is left out may change and their number stay
    sources: dict[str, list[Any]]
    accumulated: int  # batches per optimizer step
    stand_ins: list[int]  # texts, by target, whose vectors are those of documents


def run_distill(run: Run) -> None:
    """Corpus -> teacher -> teacher vectors -> diagnosis -> student -> index -> benchmark ->
    inheritance.

    Raises:
        LeafkitError: a step failed; what was finished before it stays.
    """
    check_start(run.recipe.student)
    if run.recipe.teacher.source.startswith("recipe:"):
        teaching = teacher_recipe(run.recipe)
        run.on_main(lambda: check_targets(teaching))
        run_teach(run.with_recipe(teaching))
    corpus = load_corpus(run, run.recipe.data.corpus)
    teacher = load_teacher(run)
    check_head(run.recipe.student, teacher.model.dim)
    if run.recipe.student.trains_on_losses:
        check_losses(run.recipe.student.losses, teacher.model.mrl_dims, teacher.reference)
    check_student_room(run.recipe, teacher)
    held_out = choose_held_out(corpus.collection, run.recipe.bench.split, teacher)
    targets = load_targets(run, teacher, corpus)
    limit = run.recipe.data.max_document_tokens
    is_cosine = teacher.model.space("document", limit).similarity == "cosine"
    if is_cosine and len(corpus.collection.documents) > 1:  # one text says nothing about a space
        diagnosis = run_diagnose(run)
        if diagnosis.verdict != INHERITABLE:
            log(f"  {diagnosis.sentence()}", style="yellow")
    save_student(run, teacher, corpus, leave_out(targets, unseen_texts(held_out)))
    write_index(run, teacher, corpus, targets[0].vectors)
    run_bench(run)
    if not corpus.collection.judged(run.recipe.bench.split):
        return
    if is_cosine:
        run_inherit(run)
    else:
        log(
            "  no inheritance: this teacher ranks by the inner product of vectors of any length, "
            "and truncation and quantization are measured for cosines"
        )


def teacher_recipe(recipe: Recipe) -> Recipe:
    """The recipe that trains this recipe's teacher, on the same machine settings."""
    return replace(
        load_teacher_recipe(recipe),
        checkpoints=recipe.checkpoints,
        device=recipe.device,
        precision=recipe.precision,
        force=recipe.force,
    )


def check_student_room(recipe: Recipe, teacher: ModelHandle) -> None:
    """Refuse limits that the teacher's prompts fill in the student's tokens, before the teacher
    embeds anything. A prompt has a token a byte at most, so that few are looked at.

    Raises:
        UsageError: nothing is left of a text.
    """
    if recipe.student.kind == "static":
        return  # a table has no prompt
    limits, start = _limits(recipe), None
    for role in ("query", "document"):
        prompt, limit = teacher.model.prompt(role), limits.of(role)
        if limit and len(prompt.encode()) + _SPECIALS + LITTLE > limit:
            start = start or load_encoder(recipe.student.init)
            num_tokens = count_prompt(start.tokenizer, prompt)
            check_room(role, prompt, prompt_tokens=num_tokens, limit=limit)


def load_targets(run: Run, teacher: ModelHandle, corpus: Corpus) -> list[Target]:
    """Everything the student learns from, with teacher vectors that are computed once and kept."""
    recipe = run.recipe
    is_precomputed = precomputed_of(teacher.model) is not None
    vocabulary = None if is_precomputed else teacher.encoder or load_encoder(recipe.student.init)
    unseen = unseen_texts(choose_held_out(corpus.collection, recipe.bench.split, teacher))
    groups = choose_texts(
        corpus.collection,
        teacher,
        recipe.student,
        recipe.data,
        seed=recipe.seed,
        vocabulary=vocabulary,
        held_out=unseen,
        measured=[load_corpus(run, uri).collection for uri in recipe.bench.collections],
        sources={
            name: read_source(source.uri, source.limit, recipe.data)
            for name, source in recipe.data.sources.items()
        },
        order=order_by_start(run),
    )
    check_enough_texts(groups, recipe.student, teacher.model, unseen=unseen)
    check_scores(groups, recipe.student, corpus.collection, unseen=unseen)
    return embed_groups(groups, _limits(recipe), _embedding_by(run, teacher))


def _embedding_by(run: Run, teacher: ModelHandle) -> Embed:
    """The teacher's vectors of texts, out of its stores."""

    def embed(texts: Sequence[str], role: str, max_tokens: int, what: str) -> Vectors:
        return load_vectors(
            run,
            teacher.model,
            teacher.name,
            texts,
            role=role,
            max_tokens=max_tokens,
            what=what,
        )

    return embed


def save_student(run: Run, teacher: ModelHandle, corpus: Corpus, targets: Sequence[Target]) -> Path:
    """The student's artifact: stock modules, leafkit.json with the space it lives in, the losses.

    Raises:
        UsageError: a static student's table would be too large, or its tokenizer is not a fast one.
        LeafkitError: a loss is not finite, or the student cannot be written.
    """
    folder, config = run.folder / STUDENT, run.recipe.student
    distill = distill_static if config.kind == "static" else distill_transformer
    inputs = _student_inputs(run, teacher, corpus, targets)
    method = method_of(distill, load_start, load_targets, save_model)
    identity = fingerprint([plain_inputs(inputs), method])
    task = Distillation(
        teacher=teacher,
        targets=targets,
        config=config,
        limits=_limits(run.recipe),
        embed=_embedding_by(run, teacher),
        device=run.device,
        precision=run.precision,
        seed=run.recipe.seed,
        options=partial(recipe_options, run, STUDENT, identity=identity),
        relevant=relevant_documents(corpus.collection, targets),
        tokenize=partial(load_tokens, run),
    )

    def work(metrics: dict[str, Any]) -> Distilled:
        encoder = load_start(config)
        # weights in float32, and the index after them in float16
        num_bytes = 4 * encoder.num_parameters() + 2 * teacher.model.dim * len(targets[0].texts)
        require_space(folder, num_bytes, "student and index")
        result = distill(encoder, task)
        metrics.update(result.metrics())
        metrics["texts"] = [[t.name, t.role, len(t.texts)] for t in targets]
        return result

    def save(result: Distilled, draft: Path) -> None:
        space = describe_student_space(
            result.student,
            teacher.space_id,
            teacher.reference,
            teacher.given_prompts,
            prefix_of=whole_dim(teacher.model),
            endpoint=keep_endpoint(teacher.model),
        )
        save_model(result.student, draft, space)
        (draft / LOSSES_FILE).write_text(json.dumps(result.losses))
        keep_logs(run, STUDENT, draft)

    run.step(
        name=STUDENT,
        folder=folder,
        inputs=inputs,
        method=method,
        work=work,
        save=save,
        on_every_process=True,
    )
    forget_state(run, STUDENT)
    return folder


def _that_count(recipe: Recipe, section: Mapping[str, Any], prefix: str) -> Mapping[str, Any]:
    """A section without the keys that nothing reads: they make no student stale."""
    counting: dict[str, Any] = {}
    for name, value in section.items():
        key = f"{prefix}.{name}"
        if isinstance(value, dict):
            counting[name] = _that_count(recipe, value, key)
        elif not find_missing("distill", recipe, key):
            counting[name] = value
    return counting


def _student_inputs(
    run: Run, teacher: ModelHandle, corpus: Corpus, targets: Sequence[Target]
) -> StudentInputs:
    recipe, data = run.recipe, run.recipe.data
    is_static = recipe.student.kind == "static"
    return StudentInputs(
        config=_that_count(recipe, to_plain(recipe.student), "student"),
        start=identify_model(recipe.student.init),
        teacher=teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        seed=recipe.seed,
        precision="" if is_static else str(run.precision),
        tokens=[data.max_query_tokens, data.max_document_tokens],
        texts=[len(target.texts) for target in targets],
        content=hash_contents(targets),
        sources={
            name: [to_plain(source), source_fingerprint(source.uri, data)]
            for name, source in data.sources.items()
        },
        accumulated=recipe.trainer.accumulate_grad_batches,
        stand_ins=[len(target.sources) for target in targets],
    )


def _limits(recipe: Recipe) -> TokenLimits:
    return TokenLimits(recipe.data.max_query_tokens, recipe.data.max_document_tokens)
