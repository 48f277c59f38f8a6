"""The texts that a student learns from, by role and origin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from leafkit.config import DataConfig, SourceConfig, StudentConfig
from leafkit.core.console import log
from leafkit.data.made_queries import make_queries_of
from leafkit.data.records import Collection, Query, same_text
from leafkit.data.sources import OrderTexts, training_texts
from leafkit.embedders.precomputed import PrecomputedVectors
from leafkit.embedders.prefix import precomputed_of
from leafkit.embedders.prompted import has_own_prompt, prompted_queries, warn_of_prompts
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import pseudo_texts, vary_queries
from leafkit.pipeline.model_handle import ModelHandle

# where a group's texts come from
DOCUMENTS, QUERIES, MADE_QUERIES = "documents", "queries", "made queries"
PSEUDO_TEXTS, FURTHER_TEXTS = "pseudo-texts", "further texts"
# what a closed form is fitted to, in words and by origin, by ``student.fit_to``; queries that are
# made of the documents cost at home, and are in none
FITTED_TO = {
    "documents": ("documents", (DOCUMENTS,)),
    "queries": ("documents and queries", (DOCUMENTS, QUERIES)),
    "all": ("all given texts", (DOCUMENTS, QUERIES, PSEUDO_TEXTS, FURTHER_TEXTS)),
}


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
    measured: Sequence[Collection] = (),
    order: OrderTexts | None = None,
) -> list[TextGroup]:
    """Everything the student learns from: documents first, then queries, pseudo-texts, other
    sources.

    What asks the same as a judged query, apart from case and spaces, trains nothing; how many texts
    these are is said. Documents are all there, for the index.

    Args:
        collection: its documents are the index, its train queries train.
        teacher: one whose vectors were computed elsewhere teaches the texts it knows.
        config: of the student.
        data: how many queries, pseudo-texts and texts of each source.
        seed: of what is chosen and made.
        vocabulary: whose words pseudo-texts are made of; None makes none.
        sources: the collections of ``data.sources``, by name.
        held_out: queries that train nothing either, because the student is measured on them. For
            documents see ``leave_out``.
        measured: further collections whose judged queries train nothing.
        order: chooses texts of sources that are not drawn at random.
    """
    known = precomputed_of(teacher.model)
    judged = {text for one in (collection, *measured) for text in one.judged_texts()}
    same = judged | {same_text(text) for text in held_out}
    trained = [query for query in collection.queries if query.split == "train"]
    num_judged = sum(same_text(query.text) in judged for query in trained)
    asked = [query for query in trained if same_text(query.text) not in same]
    asked = _draw(asked, data.max_train_queries, seed)
    queries, told = _by_prompt(
        collection.name, asked, teacher, config, repeats=config.query_repeats
    )
    documents = [d.full_text for d in collection.documents]
    index = TextGroup(f"{collection.name} documents", documents, "document", 1, DOCUMENTS)
    groups: list[TextGroup] = []
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
        made_group = _made_queries(collection, data, seed)
        (stand_ins if has_stand_ins else groups).append(made_group)
    if known is None and vocabulary is not None:
        words = pseudo_texts(vocabulary, data.num_pseudo_texts, seed)
        groups.append(TextGroup("pseudo-texts", words, "query", 1, PSEUDO_TEXTS))
    for name, other in (sources or {}).items():
        groups += _source_groups(
            name, other, data.sources[name], teacher=teacher, config=config, order=order
        )
    if known is not None:
        # the documents of the index must all have a vector, other texts need not
        groups = [_keep_known(known, group) for group in groups]
    kept = [index]
    for group in (*groups, *stand_ins):
        found, count = _without(group, same, judged)
        kept.append(found)
        num_judged += count
    if num_judged:
        log(f"  {num_judged:,} texts ask what a judged query asks, and train nothing")
    return [group for group in kept if group.texts]


def _draw(queries: list[Query], most: int, seed: int) -> list[Query]:
    """Some of the queries, in order; all where ``most`` is 0."""
    if not most:
        return queries
    chosen = np.random.default_rng(seed).permutation(len(queries))[:most]
    return [queries[i] for i in sorted(chosen)]


def _without(
    group: TextGroup, same: AbstractSet[str], judged: AbstractSet[str]
) -> tuple[TextGroup, int]:
    """The group without texts that are the same as one of ``same``, and how many of its texts are
    among ``judged``.
    """
    keys = [same_text(text) for text in group.texts]
    kept = [i for i, key in enumerate(keys) if key not in same]
    rest = replace(
        group,
        texts=[group.texts[i] for i in kept],
        sources=tuple(group.sources[i] for i in kept if group.sources),
    )
    return rest, sum(key in judged for key in keys)


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


def _made_queries(collection: Collection, data: DataConfig, seed: int) -> TextGroup:
    """Queries made of the documents, each with its source where that gives its vector."""
    asks = make_queries_of(collection.documents, data.num_made_queries, seed)
    group = TextGroup(f"{collection.name} made queries", list(asks), "query", 1, MADE_QUERIES)
    is_stand_in = data.made_query_vectors == "source"
    return replace(group, sources=tuple(asks.values())) if is_stand_in else group


def _source_groups(
    name: str,
    collection: Collection,
    source: SourceConfig,
    *,
    teacher: ModelHandle,
    config: StudentConfig,
    order: OrderTexts | None,
) -> list[TextGroup]:
    counts = Counter(collection.counts)
    documents, queries = training_texts(collection, source, counts, order)
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
