"""What a student learns from: texts in a role, with the teacher's vectors of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from leafkit.config import StudentConfig
from leafkit.core.console import log
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.count_cut import count_cut
from leafkit.embedders.token_reader import Tokenize, read_flat
from leafkit.index.vectors import ChosenRows, Vectors
from leafkit.models.encoder_protocol import Encoder
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.student.text_groups import FURTHER_TEXTS, TextGroup
from leafkit.results import CutTexts, StudentChecks, codec
from leafkit.train.trainer_options import TrainerOptions, default_options


class Embed(Protocol):
    """The teacher's vectors of texts: computed, or found where they were kept."""

    def __call__(self, texts: Sequence[str], role: str, max_tokens: int, what: str) -> Vectors:
        """(n, D) vectors of texts in a role, cut at ``max_tokens``; ``what`` is for messages."""


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """Where texts are cut, in tokens, prompt included; 0 takes each model's own limit."""

    query: int
    document: int

    def of(self, role: str) -> int:
        """The limit of a role."""
        return self.document if role == "document" else self.query


@dataclass(frozen=True, slots=True)
class Target:
    """Texts of one role with their teacher vectors, (n, D) in the same order; ``origin`` and
    ``sources`` as in ``TextGroup``.
    """

    texts: list[str]
    role: str
    vectors: Vectors
    repeats: int = 1
    name: str = ""
    origin: str = FURTHER_TEXTS
    sources: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """How near to the teacher a student is before training.

    Attributes:
        rank: of the map into the teacher's space.
        variance_kept: share of the teacher's variance that the best map of this rank keeps.
        ridge_cosine: mean cosine of the start's vectors to the teacher's.
        num_texts: that the start was fitted to, and the variance measured on.
        num_held_out: other texts, on which the cosine was measured; 0 where there were none, and
            it is that of the texts fitted to.
    """

    rank: int
    variance_kept: float
    ridge_cosine: float
    num_texts: int
    num_held_out: int = 0

    @property
    def measured_on(self) -> str:
        """What the cosine was measured on, in words."""
        if self.num_held_out:
            return f"{self.num_held_out:,} texts that it was not fitted to"
        return f"the {self.num_texts:,} texts that it was fitted to"


@dataclass(frozen=True, slots=True)
class Distillation:
    """One distillation: who teaches, on which texts, with which settings, on which machine.

    Attributes:
        teacher: gives the vectors that are learned.
        targets: texts with them.
        config: of the student.
        limits: where texts are cut.
        embed: gives the teacher's vectors of further texts.
        device: trained on.
        precision: of the arithmetic.
        seed: of everything random.
        options: loggers, callbacks, strategy and accumulation of a training, by its name: a static
            student is trained on documents, then on queries.
        relevant: grades by position in the index, by train query: held-out ones are judged by them.
        tokenize: gives token ids of texts, in memory or out of kept files.
    """

    teacher: ModelHandle
    targets: Sequence[Target]
    config: StudentConfig
    limits: TokenLimits
    embed: Embed
    device: torch.device
    precision: torch.dtype
    seed: int
    options: Callable[[str], TrainerOptions] = default_options
    relevant: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    tokenize: Tokenize = read_flat


@dataclass(frozen=True, slots=True)
class Distilled:
    """A trained student, on the CPU and in evaluation mode.

    Attributes:
        student: the model.
        losses: of each step.
        start: where it began.
        loader: how long the model waited for its batches.
        cuts: what it did not read of the texts.
        held_out: its start and end on texts that trained nothing; None where there were none.
    """

    student: Encoder
    losses: list[float]
    start: Start
    loader: Mapping[str, float]
    cuts: tuple[CutTexts, ...] = ()
    held_out: StudentChecks | None = None

    def metrics(self) -> Mapping[str, Any]:
        """The figures as plain data."""
        return {
            "spectrum": asdict(self.start),
            "loader": dict(self.loader),
            "cuts": [cut.to_plain() for cut in self.cuts],
            "parameters": self.student.num_parameters(),
            "held_out": codec.to_plain(self.held_out),
            **(
                {"first_loss": self.losses[0], "last_loss": float(np.mean(self.losses[-20:]))}
                if self.losses
                else {}
            ),
        }


def embed_groups(groups: Sequence[TextGroup], limits: TokenLimits, embed: Embed) -> list[Target]:
    """The groups with their teacher vectors; of those with sources, the documents'."""
    targets: list[Target] = []
    for group in groups:
        vectors: Vectors
        if group.sources:
            vectors = ChosenRows(targets[0].vectors, np.array(group.sources, dtype=np.int64))
        else:
            vectors = embed(group.texts, group.role, limits.of(group.role), group.name)
        targets.append(
            Target(
                texts=group.texts,
                role=group.role,
                vectors=vectors,
                repeats=group.repeats,
                name=group.name,
                origin=group.origin,
                sources=group.sources,
            )
        )
    return targets


def count_cuts(student: Encoder, task: Distillation) -> tuple[CutTexts, ...]:
    """What a student does not read of the texts that it learns from, by role; said where it is
    something.

    An endpoint, and vectors that were computed elsewhere, are of whole texts.
    """
    cuts = []
    for role in dict.fromkeys(target.role for target in task.targets):
        texts = [text for target in task.targets if target.role == role for text in target.texts]
        # queries under instructions of their own have a role of their own
        what = "texts trained as documents" if role == "document" else "texts trained as queries"
        limit = task.limits.of(role) or min(task.teacher.model.max_tokens, student.limit(0))
        cut = count_cut(student, texts, role, limit, model="student", what=what)
        if cut.num_cut:
            log(f"  {cut}", style="yellow")
        cuts.append(cut)
    return tuple(cuts)


def of_origin(origin: str) -> Callable[[int, Target], bool]:
    """What ``list_rows`` asks for texts of one origin."""
    return lambda _, target: target.origin == origin


def list_rows(
    targets: Sequence[Target],
    is_wanted: Callable[[int, Target], bool] = lambda number, target: True,
    *,
    without: AbstractSet[str] = frozenset(),
) -> list[tuple[int, int]]:
    """(number of the target, number of its text) of every text, in order.

    Args:
        targets: of the student.
        is_wanted: asked of the number of a target and of it.
        without: texts that are left out.
    """
    return [
        (g, i)
        for g, target in enumerate(targets)
        if is_wanted(g, target)
        for i in range(len(target.texts))
        if target.texts[i] not in without
    ]


def hash_contents(targets: Sequence[Target]) -> list[str]:
    """A hash of the texts of each target: what a student learned from, to be known again."""
    return [
        hashlib.blake2b(hash_texts(target.texts).tobytes(), digest_size=8).hexdigest()
        for target in targets
    ]


def read_targets(targets: Sequence[Target], rows: Sequence[tuple[int, int]]) -> np.ndarray:
    """(n, D) float32 teacher vectors of rows, each (number of the target, number of its text)."""
    groups, texts = np.array([g for g, _ in rows]), np.array([i for _, i in rows])
    out: np.ndarray | None = None
    for g in np.unique(groups):
        block = targets[int(g)].vectors[texts[groups == g]]
        if out is None:
            out = np.empty((len(rows), block.shape[1]), dtype=np.float32)
        out[groups == g] = block
    if out is None:
        raise ValueError("no rows to read")
    return out
