"""Did training see the texts that are measured on? Counted per collection, from the sources that
the recipes name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafkit.config import Recipe, SourceConfig, TrainSourceConfig, to_plain
from leafkit.config.load import from_plain, load_recipe
from leafkit.core.artifact import read_manifest
from leafkit.core.checkpoint_layout import CONTAMINATION, CONTAMINATION_FILE, MANIFEST_FILE, STUDENT
from leafkit.core.method import method_of
from leafkit.data.contamination import Evaluation, find_overlaps
from leafkit.data.prompts import without_prompt
from leafkit.data.records import Collection, clean_text
from leafkit.data.sources import (
    BadRows,
    has_raw_rows,
    read_raw_rows,
    read_source,
    source_fingerprint,
    training_texts,
)
from leafkit.data.training_rows import has_task_rows, read_task_rows
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.evaluate.corpora import BenchCorpus
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.run import Run
from leafkit.results import Contamination, ContaminationReport, codec
from leafkit.results.retrieval import IN_DOMAIN

FORMAT = 2  # of the file and of what counts as an overlap
_TEXT_KEYS = ("query", "positive", "positives", "negatives", "text", "s1", "s2")
_IN_DOMAIN_NOTE = (
    "the corpus's documents train the student by design (it learns the teacher's vectors of the "
    "texts that are indexed); the queries are what must not be known"
)


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """One source of training texts.

    Attributes:
        kind: corpus (a collection: all documents, train queries), texts (the student's further
            sources), rows (a teacher's stage) or disclosed (named by bench.training_sources).
        recipe: whose data section says how it is read.
        config: uri, limit and task.
        take, choose: of texts, what and which of them; see ``SourceConfig``.
    """

    kind: str
    recipe: Recipe
    config: TrainSourceConfig
    take: str = "all"
    choose: str = "random"

    def identity(self) -> list[Any]:
        """What decides about its texts."""
        return [
            self.kind,
            [to_plain(self.config), self.take, self.choose],
            source_fingerprint(self.config.uri, self.recipe.data),
        ]


@dataclass(frozen=True, slots=True)
class ContaminationInputs:
    """What decides about the overlaps of training and evaluation."""

    format: int
    split: str
    overlap_words: int
    strangers: list[str]  # models whose training texts are not known
    corpora: list[list[str]]  # fingerprint and kind
    sources: list[list[Any]]  # identities


def check_contamination(
    run: Run, teacher: ModelHandle, student: ModelHandle, corpora: Sequence[BenchCorpus]
) -> dict[str, Contamination]:
    """Evaluation texts of each collection that the pair's training texts hold, exactly or nearly;
    an artifact of its own.

    Training texts are those of the recipe that made the student (data.corpus, data.sources), those
    of the recipe that trained the teacher (the sources of its stages) and those that
    bench.training_sources names for models not made here. Call it outside the work of another
    stage, on every process.

    Args:
        run: this run.
        teacher: of the pair.
        student: of the pair.
        corpora: what is measured on.

    Returns:
        By name of the collection what ``leafkit.data.contamination.find_overlaps`` counts, with
        notes, or the reason where no training text is known at all.

    Raises:
        LeafkitError: a source cannot be read.
    """
    config = run.recipe.bench
    names = list(dict.fromkeys(chosen.collection.name for chosen in corpora))
    sources, strangers = list_training(run, teacher, student)
    if not sources:
        return {name: Contamination(unknown=_not_known(strangers)) for name in names}
    inputs = ContaminationInputs(
        format=FORMAT,
        split=config.split,
        overlap_words=config.overlap_words,
        strangers=strangers,
        corpora=[[chosen.corpus.fingerprint, chosen.kind] for chosen in corpora],
        sources=run.on_main(lambda: [source.identity() for source in sources]),
    )
    folder = run.folder / CONTAMINATION

    def work(metrics: dict[str, Any]) -> ContaminationReport:
        overlaps = _count_overlaps(run, sources, corpora)
        notes = _find_notes(run, sources, strangers, corpora)
        noted = {name: replace(overlap, notes=notes[name]) for name, overlap in overlaps.items()}
        metrics["overlaps"] = {
            name: {
                "queries": codec.to_plain(overlap.queries),
                "documents": codec.to_plain(overlap.documents),
            }
            for name, overlap in noted.items()
        }
        return ContaminationReport(noted)

    def save(report: ContaminationReport, draft: Path) -> None:
        report.save(draft / CONTAMINATION_FILE)

    run.step(
        name=CONTAMINATION,
        folder=folder,
        inputs=inputs,
        method=method_of(check_contamination),
        work=work,
        save=save,
    )
    return dict(ContaminationReport.load(folder / CONTAMINATION_FILE).collections)


def _count_overlaps(
    run: Run, sources: Sequence[TrainingSource], corpora: Sequence[BenchCorpus]
) -> dict[str, Contamination]:
    """Overlaps by name of the collection, without notes."""
    config = run.recipe.bench
    # the work is the first process's own
    alone = replace(run, world=replace(run.world, rank=0, size=1, num_local=1))
    evaluations = {
        chosen.collection.name: Evaluation(
            [q.text for q in chosen.collection.judged(config.split)],
            [d.full_text for d in chosen.collection.documents],
        )
        for chosen in corpora
    }
    texts = (text for source in sources for text in read_training(alone, source, corpora))
    return find_overlaps(texts, evaluations, config.overlap_words)


def _find_notes(
    run: Run,
    sources: Sequence[TrainingSource],
    strangers: Sequence[str],
    corpora: Sequence[BenchCorpus],
) -> dict[str, tuple[str, ...]]:
    """What a reader of the overlaps has to know, by name of the collection."""
    is_trained_on = any(
        s.kind == "corpus" and s.config.uri == run.recipe.data.corpus for s in sources
    )
    of_strangers = [_not_known(strangers)] if strangers else []
    in_domain = {chosen.collection.name for chosen in corpora if chosen.kind == IN_DOMAIN}
    return {
        chosen.collection.name: (
            *([_IN_DOMAIN_NOTE] if is_trained_on and chosen.collection.name in in_domain else []),
            *of_strangers,
        )
        for chosen in corpora
    }


def list_training(
    run: Run, teacher: ModelHandle, student: ModelHandle
) -> tuple[list[TrainingSource], list[str]]:
    """Every source the pair is known to have been trained on, and the names of models whose
    training texts are not known.

    A recipe may have changed, or have been given other values in the command line, since a model
    was made: what counts is the one in the model's manifest. Start models count among those not
    known: what MiniLM was trained on before it came here, nobody checks.
    """
    recipe = run.recipe
    sources: list[TrainingSource] = []
    strangers: list[str] = []
    for reference, handle in (
        (recipe.bench.student or f"recipe:{recipe.name}", student),
        (recipe.teacher.source, teacher),
    ):
        kind, _, name = reference.partition(":")
        if kind != "recipe":
            its_sources, starts = _of_folder(name) if kind == "model" else ([], [])
            sources += its_sources
            strangers += starts or [handle.reference]
            continue
        maker = recipe if handle is student and not recipe.bench.student else load_recipe(name)
        is_student = handle is student and not (maker.stages and not maker.teacher.source)
        its_sources, starts = _of_student(run, maker) if is_student else list_stages(run, maker)
        sources += its_sources
        strangers += starts
    if recipe.bench.training_sources:
        sources += [
            TrainingSource("disclosed", recipe, TrainSourceConfig(uri=uri))
            for uri in recipe.bench.training_sources
        ]
        strangers = []
    unique = {}
    for s in sources:
        texts = [s.config.limit, s.take, s.choose]
        key = [s.kind, s.config.uri, s.config.task, texts, to_plain(s.recipe.data)]
        unique[json.dumps(key)] = s
    return list(unique.values()), list(dict.fromkeys(strangers))


def _as_made(folder: Path, today: Recipe) -> Recipe:
    """The recipe that a model was made under; today's where there is no such model, or one of
    another version of leafkit.
    """
    if not (folder / MANIFEST_FILE).is_file():
        return today
    try:
        return from_plain(read_manifest(folder).recipe)
    except ValueError:
        return today


def _of_student(run: Run, maker: Recipe) -> tuple[list[TrainingSource], list[str]]:
    """What a recipe distils its student from, and the student's start model."""
    return _distilled_from(_as_made(run.root / maker.name / STUDENT, maker))


def _of_folder(name: str) -> tuple[list[TrainingSource], list[str]]:
    """What the model in a folder was trained on, and the models it started from, as its manifest
    says where leafkit made it; nothing of another one.
    """
    folder = Path(name)
    if not (folder / MANIFEST_FILE).is_file():
        return [], []
    manifest = read_manifest(folder)
    try:
        maker = from_plain(manifest.recipe)
    except ValueError:  # of another version, or an export, which keeps no recipe
        return [], []
    if manifest.step == STUDENT:
        return _distilled_from(maker)
    if manifest.step not in maker.stages:
        return [], []
    made = list(maker.stages)
    return _trained_on(dict.fromkeys(made[: made.index(manifest.step) + 1], maker))


def _distilled_from(maker: Recipe) -> tuple[list[TrainingSource], list[str]]:
    sources = [TrainingSource("corpus", maker, TrainSourceConfig(uri=maker.data.corpus))]
    for more in maker.data.sources.values():
        config = TrainSourceConfig(uri=more.uri, limit=more.limit)
        sources.append(TrainingSource("texts", maker, config, more.take, more.choose))
    return sources, [maker.student.init]


def list_stages(run: Run, recipe: Recipe) -> tuple[list[TrainingSource], list[str]]:
    """What the stages of a recipe are trained on, and the models they start from."""
    made = {name: _as_made(run.root / recipe.name / name, recipe) for name in recipe.stages}
    return _trained_on(
        {name: maker if name in maker.stages else recipe for name, maker in made.items()}
    )


def _trained_on(makers: Mapping[str, Recipe]) -> tuple[list[TrainingSource], list[str]]:
    """What stages are trained on, and the models they start from, by the recipe that each was made
    under.
    """
    sources: list[TrainingSource] = []
    starts: list[str] = []
    for name, maker in makers.items():
        stage = maker.stages[name]
        starts += [
            model
            for model in (stage.soup.members or [stage.init])
            if not model.startswith("stage:")
        ]
        if not stage.soup.members:
            rows = list(stage.sources.values()) or [TrainSourceConfig(uri=maker.data.corpus)]
            sources += [
                TrainingSource("rows" if stage.sources else "corpus", maker, config)
                for config in rows
            ]
    return sources, starts


def _not_known(strangers: Sequence[str]) -> str:
    return (
        f"the training texts of {', '.join(strangers)} are not known; name them with "
        f"bench.training_sources"
    )


def read_training(
    alone: Run, source: TrainingSource, corpora: Sequence[BenchCorpus] = ()
) -> Iterator[str]:
    """The texts of one training source, without prompts that stand in them already; labelled and
    scored rows give theirs, collections documents and train queries.

    Args:
        alone: a run of one process.
        source: what to read.
        corpora: collections that are read already; the corpus is taken from there.

    Raises:
        LeafkitError: it cannot be read.
    """
    yield from map(without_prompt, _read_source(alone, source, corpora))


def _read_source(
    alone: Run, source: TrainingSource, corpora: Sequence[BenchCorpus]
) -> Iterator[str]:
    config, data = source.config, source.recipe.data
    there = alone.with_recipe(
        replace(source.recipe, checkpoints=alone.recipe.checkpoints, force=False)
    )
    if source.kind == "disclosed":
        yield from _read_disclosed(there, config.uri)
    elif source.kind == "rows" and has_task_rows(config, data):
        rows = read_task_rows(config.uri, config, data, 0, seed=source.recipe.seed)
        yield from rows.documents
        yield from dict.fromkeys(rows.queries)
    elif source.kind == "rows":
        yield from _texts_of(load_corpus(there, config.uri, config.limit, "train").collection)
    elif source.kind == "texts":
        # which ones the start model chose is not known here: all count
        limit = config.limit if source.choose == "random" else 0
        of_texts = SourceConfig(config.uri, limit, source.take)
        yield from _texts_of(read_source(config.uri, config.limit, data), of_texts)
    else:
        is_same = config.uri == alone.recipe.data.corpus and data == alone.recipe.data
        read = [chosen.corpus for chosen in corpora if chosen.kind == IN_DOMAIN and is_same]
        yield from _texts_of((read[0] if read else load_corpus(there, config.uri)).collection)


def _texts_of(collection: Collection, source: SourceConfig | None = None) -> Iterator[str]:
    """Documents, then train queries: those that train."""
    documents, queries = training_texts(collection, source or SourceConfig(), Counter())
    yield from filter(None, [*documents, *(query.text for query in queries)])


def _read_disclosed(there: Run, uri: str) -> Iterator[str]:
    """Every text of a source that somebody else's model was trained on; rows of another split than
    train are left out.

    Raises:
        LeafkitError: a row holds no text and the policy is to stop.
    """
    if not has_raw_rows(uri):
        yield from _texts_of(load_corpus(there, uri).collection)
        return
    data = there.recipe.data
    counts: Counter[str] = Counter()
    bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
    for where, row in read_raw_rows(uri, bad, data=data):
        if row.get("split", "train") != "train":
            continue
        values = [_text_of(value) for key in _TEXT_KEYS for value in _as_list(row.get(key))]
        if row.get("title") and isinstance(row.get("text"), str):
            values = [
                f"{row['title']} {value}" if value is row["text"] else value for value in values
            ]
        texts = [clean_text(value, counts) for value in values if isinstance(value, str)]
        if not any(texts):
            bad.refuse(where, f"no text under any of {', '.join(_TEXT_KEYS)}")
        yield from filter(None, texts)


def _text_of(value: Any) -> Any:
    """The text of a passage with a title of its own, as Tevatron's rows have it."""
    if not isinstance(value, dict):
        return value
    return " ".join(str(value[key]) for key in ("title", "text") if value.get(key))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
