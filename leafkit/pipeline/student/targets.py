"""What a student learns from: texts in a role, with the teacher's vectors of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from leafkit.config import DataConfig, SourceConfig, StudentConfig
from leafkit.core.console import log
from leafkit.data.made_queries import make_queries_of
from leafkit.data.records import Collection, Query, same_text
from leafkit.data.sources import training_texts
from leafkit.embedders.count_cut import count_cut
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.prefix import precomputed_of
from leafkit.embedders.prompted import has_own_prompt, prompted_queries, warn_of_prompts
from leafkit.embedders.token_reader import Tokenize, read_flat
from leafkit.index.vectors import ChosenRows, Vectors
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import pseudo_texts, vary_queries
from leafkit.pipeline.model_handle import ModelHandle
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


# where a group's texts come from
DOCUMENTS, QUERIES, MADE_QUERIES = "documents", "queries", "made queries"
PSEUDO_TEXTS, FURTHER_TEXTS = "pseudo-texts", "further texts"


@dataclass(frozen=True, slots=True)
class TextGroup:
    """Texts of one role and origin; each is seen ``repeats`` times per pass.

    Attributes:
        name: in messages.
        texts: in order.
        role: they are embedded in.
        repeats: times per pass.
        origin: ``DOCUMENTS`` of the index, ``QUERIES`` of it, ``MADE_QUERIES`` of the documents,
            ``PSEUDO_TEXTS``, or ``FURTHER_TEXTS`` of other sources.
        sources: position of the document whose vector stands for each text's own; empty where the
            teacher gives them.
    """

    name: str
    texts: list[str]
    role: str
    repeats: int = 1
    origin: str = FURTHER_TEXTS
    sources: tuple[int, ...] = ()


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


def choose_texts(
    collection: Collection,
    teacher: ModelHandle,
    config: StudentConfig,
    data: DataConfig,
    *,
    seed: int,
    vocabulary: TextEncoder | None = None,
    sources: Mapping[str, Collection] | None = None,
    held_out: AbstractSet[str] = frozenset(),
) -> list[TextGroup]:
    """Everything the student learns from: documents first, then queries, pseudo-texts, other
    sources.

    Args:
        collection: its documents are the index, its train queries train.
        teacher: one whose vectors were computed elsewhere teaches the texts it knows.
        config: of the student.
        data: how many queries, pseudo-texts and texts of each source.
        seed: of what is chosen and made.
        vocabulary: whose words pseudo-texts are made of; None makes none.
        sources: the collections of ``data.sources``, by name.
        held_out: queries that train nothing, because the student is measured on them, nor what
            differs from one in case and spaces only. Documents are all there, for the index; see
            ``leave_out``.
    """
    known = precomputed_of(teacher.model)
    same = {same_text(text) for text in held_out}
    trained = [query for query in collection.queries if query.split == "train"]
    asked = [query for query in trained if same_text(query.text) not in same]
    if data.max_train_queries:
        chosen = np.random.default_rng(seed).permutation(len(asked))[: data.max_train_queries]
        asked = [asked[i] for i in sorted(chosen)]
    queries, told = _by_prompt(
        collection.name, asked, teacher, config, repeats=config.query_repeats
    )
    documents = [d.full_text for d in collection.documents]
    groups = [TextGroup(f"{collection.name} documents", documents, "document", 1, DOCUMENTS)]
    has_stand_ins = data.num_made_queries > 0 and data.made_query_vectors == "source"
    if known is not None:
        made = "" if has_stand_ins else "made of documents or "
        log(
            f"  {teacher.reference} has the vectors of its own texts alone: no pseudo-texts, no "
            f"queries {made}rewritten as questions"
        )
    else:
        queries = vary_queries(queries, config.question_ratio, seed)
    groups.append(
        TextGroup(f"{collection.name} queries", queries, "query", config.query_repeats, QUERIES)
    )
    groups += [replace(group, origin=QUERIES) for group in told]
    stand_ins: list[TextGroup] = []
    if data.num_made_queries and (known is None or has_stand_ins):
        name = f"{collection.name} made queries"
        asks = make_queries_of(collection.documents, data.num_made_queries, seed)
        kept = {text: place for text, place in asks.items() if same_text(text) not in same}
        group = TextGroup(name, list(kept), "query", 1, MADE_QUERIES)
        if has_stand_ins:
            stand_ins = [replace(group, sources=tuple(kept.values()))]
        else:
            groups.append(group)
    if known is None and vocabulary is not None:
        words = pseudo_texts(vocabulary, data.num_pseudo_texts, seed)
        groups.append(TextGroup("pseudo-texts", words, "query", 1, PSEUDO_TEXTS))
    for name, other in (sources or {}).items():
        found = _source_groups(name, other, data.sources[name], teacher=teacher, config=config)
        groups += [
            replace(group, texts=[text for text in group.texts if same_text(text) not in same])
            for group in found
        ]
    if known is not None:
        # the documents of the index must all have a vector, other texts need not
        groups[1:] = [_keep_known(known, group) for group in groups[1:]]
    return [group for group in (*groups, *stand_ins) if group.texts]


def _by_prompt(
    name: str,
    queries: Sequence[Query],
    teacher: ModelHandle,
    config: StudentConfig,
    *,
    repeats: int,
) -> tuple[list[str], list[TextGroup]]:
    """Queries under the teacher's usual prompt, and, as a group of their own with their prompts
    before them, those whose instruction gives them another.
    """
    warn_of_prompts(teacher.model, [q.text for q in queries], f"{name} train queries")
    # a table has no prompts: it learns the text alone, whatever the teacher puts before it
    is_static = config.kind == "static"
    told = [] if is_static else [q for q in queries if has_own_prompt(teacher.model, q)]
    others = {query.id for query in told}
    texts, role = prompted_queries(teacher.model, told)
    group = TextGroup(f"{name} queries under instructions of their own", texts, role, repeats)
    return [q.text for q in queries if q.id not in others], [group] if told else []


def _source_groups(
    name: str,
    collection: Collection,
    source: SourceConfig,
    *,
    teacher: ModelHandle,
    config: StudentConfig,
) -> list[TextGroup]:
    counts = Counter(collection.counts)
    documents, queries = training_texts(collection, source, counts)
    for what, count in counts.items():
        log(f"  {name}: {what}: {count:,}", style="dim")
    usual, told = _by_prompt(name, queries, teacher, config, repeats=1)
    return [
        TextGroup(f"{name} documents", documents, "document"),
        TextGroup(f"{name} queries", usual, "query"),
        *told,
    ]


def _keep_known(vectors: PrecomputedVectors, group: TextGroup) -> TextGroup:
    has_vector = vectors.has(group.texts, group.role)
    kept = [text for text, known in zip(group.texts, has_vector, strict=True) if known]
    if len(kept) < len(group.texts):
        log(
            f"  {group.name}: {len(group.texts) - len(kept):,} of {len(group.texts):,} texts have "
            f"no vector and train nothing"
        )
    return replace(group, texts=kept)


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
