"""A student's checks on held-out texts: made while it trains, summed up for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import torch
from torch import nn

from leafkit.config import StudentConfig
from leafkit.core.console import log
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.fit.closed_form import ClosedForm
from leafkit.pipeline.student.fit.score_head import ScoreHead
from leafkit.pipeline.student.targets import Distillation
from leafkit.pipeline.student.validation import Agreed, Validation
from leafkit.results import StudentChecks
from leafkit.train.keep_best import KeepBest
from leafkit.train.static_module import StaticModule
from leafkit.train.weight_average import WeightAverage

TABLE_START = "the table of its start"


def make_check(
    student: TextEncoder, task: Distillation, validation: Validation
) -> Callable[[], Agreed]:
    """What measures a student as it stands."""

    def measure() -> Agreed:
        embedder = TransformerEmbedder(student, task.device, task.precision)
        return validation.measure(embedder.embed_ids(validation.token_ids))

    return measure


def make_table_check(module: StaticModule, validation: Validation) -> Callable[[], Agreed]:
    """What measures a table as it stands in its training."""

    def measure() -> Agreed:
        module.copy_rows()
        with torch.inference_mode():
            vectors = module.encoder.finish(module.encoder(validation.token_ids))
        return validation.measure(vectors.cpu().numpy())

    return measure


def warn_unwatched(start_name: str) -> None:
    """Say that too few texts are there for a training to be checked on."""
    log(
        "  too few texts to hold some out: training ends where its plan ends, be that better than "
        f"{start_name} or not",
        style="yellow",
    )


def keep_best(
    student: nn.Module,
    config: StudentConfig,
    check: Callable[[], Agreed],
    num_batches: int,
    *,
    average: WeightAverage | None = None,
) -> KeepBest[Agreed]:
    """The checks of a training of so many batches, by its settings; of the average of its weights
    where there is one.

    Args:
        student: what the training changes of it, at least.
        config: settings.
        check: measures it.
        num_batches: of the training.
        average: of its weights.
    """
    return KeepBest(
        student,
        check,
        num_batches,
        config.num_checks,
        is_enough=lambda found: (
            config.enough_overlap < 1 and found.overlap >= config.enough_overlap
        ),
        patience=config.patience,
        average=average,
        pack=asdict,
        unpack=lambda plain: Agreed(**plain | {"shares": tuple(plain["shares"])}),
    )


def summarize_checks(
    form: ClosedForm,
    validation: Validation,
    best: KeepBest[Agreed] | None,
    num_batches: int,
    *,
    fitted: ScoreHead | None = None,
) -> StudentChecks | None:
    """Start and end in one line of figures; None where a training was not checked.

    Args:
        form: the start.
        validation: what was held out.
        best: the training's checks; None of one without.
        num_batches: of the training.
        fitted: steps on scores that were kept, which the start includes; None where there are none.
    """
    begun = fitted.agreed if fitted is not None else form.agreed
    start = best.checks[0][1] if best else begun
    kept = best.found_best if best else begun
    if start is None or kept is None or (best is None and num_batches):
        return None
    return StudentChecks(
        texts=validation.asked,
        num_texts=len(validation.rows),
        ridge=form.ridge,
        fitted_to=form.fitted_to,
        start_cosine=start.cosine,
        start_overlap=start.overlap,
        cosine=kept.cosine,
        overlap=kept.overlap,
        kept_after=best.best if best else 0,
        num_batches=num_batches,
        num_done=best.num_done if best else 0,
        num_judged=len(validation.judged) if validation.judgments else 0,
        start_ndcg=start.ndcg,
        ndcg=kept.ndcg,
        head_steps=fitted.num_steps if fitted is not None else 0,
    )


def summarize_table(
    validation: Validation, phases: Sequence[tuple[KeepBest[Agreed], int]]
) -> StudentChecks:
    """Start and end of a table that was trained in phases, each from the best of the one before.

    Args:
        validation: what was held out.
        phases: the checks of each, and the batches that it was planned for.
    """
    kept_after = num_done = 0
    for best, _ in phases:
        kept_after = num_done + best.best if best.best else kept_after
        num_done += best.num_done
    start, kept = phases[0][0].checks[0][1], phases[-1][0].found_best
    return StudentChecks(
        texts=validation.asked,
        num_texts=len(validation.rows),
        ridge=0.0,
        fitted_to="",
        start_cosine=start.cosine,
        start_overlap=start.overlap,
        cosine=kept.cosine,
        overlap=kept.overlap,
        kept_after=kept_after,
        num_batches=sum(planned for _, planned in phases),
        num_done=num_done,
        num_judged=len(validation.judged) if validation.judgments else 0,
        start_ndcg=start.ndcg,
        ndcg=kept.ndcg,
        begun_as=TABLE_START,
    )


def say_checks(found: StudentChecks) -> None:
    """What training brought, in one line, and whether it ended before its plan."""
    start = Agreed(found.start_cosine, found.start_overlap, ndcg=found.start_ndcg)
    end = Agreed(found.cosine, found.overlap, ndcg=found.ndcg)
    asked = f"{found.num_texts:,} {found.texts} held out"
    if found.is_enough_at_start:
        log(
            f"  {found.start_name} has {start} on {asked}: there is nothing left to train for "
            "(student.enough_overlap=1 trains all the same)"
        )
        return
    if found.ended_early:
        log(f"  training ended after {found.num_done:,} of {found.num_batches:,} batches")
    if found.kept_after:
        log(
            f"  on {asked}: {start} at the start, {end} after {found.kept_after:,} of "
            f"{found.num_batches:,} batches, which is kept"
        )
    else:
        other = "student.optimizer.lr, or student.losses.score_kl=1,"
        if found.begun_as == TABLE_START:
            other = "student.static.lr and query_lr"
        log(
            f"  training found no more than {found.start_name} on {asked} ({start}); that is kept. "
            f"A lower {other} may find more",
            style="yellow",
        )
