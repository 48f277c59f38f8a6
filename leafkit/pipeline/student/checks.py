"""A student's checks on held-out texts: made while it trains, summed up for the report."""

from __future__ import annotations

from leafkit.core.console import log
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.closed_form import ClosedForm
from leafkit.pipeline.student.targets import Distillation
from leafkit.pipeline.student.validation import Agreed, Validation
from leafkit.results import StudentChecks
from leafkit.train.keep_best import KeepBest


def make_checks(
    student: TextEncoder, task: Distillation, validation: Validation, num_batches: int
) -> KeepBest[Agreed]:
    """Checks of a student in training."""

    def measure() -> Agreed:
        embedder = TransformerEmbedder(student, task.device, task.precision)
        return validation.measure(embedder.embed_ids(validation.token_ids))

    return KeepBest(student, measure, num_batches, task.config.num_checks)


def summarize_checks(
    form: ClosedForm, validation: Validation, best: KeepBest[Agreed] | None, num_batches: int
) -> StudentChecks | None:
    """Start and end in one line of figures; None where a training was not checked.

    Args:
        form: the start.
        validation: what was held out.
        best: the training's checks; None of one without.
        num_batches: of the training.
    """
    start = best.checks[0][1] if best else form.agreed
    kept = best.found_best if best else form.agreed
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
    )


def say_checks(found: StudentChecks) -> None:
    """What training brought, in one line."""
    start = Agreed(found.start_cosine, found.start_overlap)
    asked = f"{found.num_texts:,} {found.texts} held out"
    if found.kept_after:
        log(
            f"  on {asked}: {start} at the start, {Agreed(found.cosine, found.overlap)} after "
            f"{found.kept_after:,} of {found.num_batches:,} batches, which is kept"
        )
    else:
        log(
            f"  training found no more than the closed form on {asked} ({start}); that is kept. A "
            "lower student.optimizer.lr, or student.losses.score_kl=1, may find more",
            style="yellow",
        )
