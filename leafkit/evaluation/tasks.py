"""Tasks without a search: sentence similarity, clustering and classification, for students that
serve more than queries.

``sts:PATH`` holds rows {"s1", "s2", "score"}, ``clustering:PATH`` and ``classification:PATH`` rows
{"text", "label"}, as jsonl. Rows whose "split" is test, or that have none, are measured; train rows
train the probe. Both texts of a pair are of one kind, so every text is embedded as a query.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leafkit.config import EMBEDDING_TASKS, DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.evaluation.bootstrap import Bootstrap, Draws
from leafkit.evaluation.task_rows import SHAPES, TaskFile
from leafkit.evaluation.task_scores import (
    NUM_EXPERIMENTS,
    NUM_SUBSAMPLES,
    SAMPLES_PER_LABEL,
    cosines,
    draw_subsamples,
    draw_training_sets,
    probe_hits,
    resampled_spearman,
    spearman,
    v_measures,
)
from leafkit.results import Difference, TaskScore

Embed = Callable[[str, Sequence[str], str], np.ndarray]  # (encoder, texts, role) -> (n, D) float32
ROLE = "query"
METRICS = {"sts": "spearman", "clustering": "v_measure", "classification": "accuracy"}
_DIFFERENCES = (("student", "teacher"), ("student", "baseline"), ("teacher", "baseline"))


@dataclass(frozen=True, slots=True)
class _Scores:
    """What a task gives: the number of test rows, estimates of all encoders with their resamples,
    and how it was measured.
    """

    num_rows: int
    draws: Draws[str]
    how: str


def run_task(
    uri: str,
    encoders: Iterable[str],
    embed: Embed,
    *,
    num_resamples: int,
    seed: int,
    data: DataConfig | None = None,
) -> TaskScore:
    """Measure every encoder on one task, with paired intervals.

    The interval of sts and classification is over the test rows, that of clustering over its
    subsamples, which overlap: it says how much k-means and the draw decide, not how other texts
    would do.

    Args:
        uri: sts:PATH, clustering:PATH or classification:PATH.
        encoders: names of what is compared, "teacher", "student", "baseline".
        embed: vectors of texts by encoder and role; called once per encoder, with different texts.
        num_resamples: of the bootstrap.
        seed: of every draw; all encoders share them.
        data: what to do with bad rows; None stops at the first.

    Raises:
        UsageError: the task is of no known kind, or its file does not exist.
        LeafkitError: a row is bad and the policy is to stop, there is nothing to measure, or
            vectors are not usable.
        MissingExtra: clustering and classification without scikit-learn.
    """
    kind, path = _split_uri(uri)
    data = data or DataConfig()
    names = list(encoders)
    file = TaskFile(path, data)
    scores = _SCORES[kind](file, _Vectors(names, embed), num_resamples, seed)
    metric = METRICS[kind]
    return TaskScore(
        kind=kind,
        name=Path(path).stem,
        metric=metric,
        num_rows=scores.num_rows,
        how=scores.how,
        counts=dict(file.counts),
        scores={name: scores.draws.mean(name) for name in names},
        differences=tuple(
            Difference(a, b, metric, scores.draws.difference(a, b))
            for a, b in _DIFFERENCES
            if a in names and b in names
        ),
    )


def task_fingerprint(uri: str) -> str:
    """Identity of a task: its kind and its file's content.

    Raises:
        UsageError: the task is of no known kind, or its file does not exist.
    """
    kind, path = _split_uri(uri)
    return fingerprint([kind, Path(path).stem, sha256_of_file(Path(path))])


def _split_uri(uri: str) -> tuple[str, str]:
    kind, _, path = uri.partition(":")
    if kind not in EMBEDDING_TASKS or not path:
        raise UsageError(
            f"unknown task {uri!r}",
            f"a task is one of {', '.join(f'{name}:PATH' for name in EMBEDDING_TASKS)}",
        )
    if not Path(path).is_file():
        raise UsageError(f"task {uri}: no such file: {Path(path).absolute()}", "check the path")
    return kind, path


class _Vectors:
    """Vectors of texts from every encoder; each text is embedded once."""

    def __init__(self, names: Sequence[str], embed: Embed) -> None:
        self.names, self._embed = names, embed

    def of(self, *groups: Sequence[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Per encoder its name and an (n, D) array for each group of texts.

        Raises:
            LeafkitError: not as many vectors as texts, or a vector is not finite.
        """
        position = {
            text: i
            for i, text in enumerate(dict.fromkeys(text for texts in groups for text in texts))
        }
        unique = list(position)
        rows = [np.array([position[text] for text in texts]) for texts in groups]
        for name in self.names:
            vectors = np.asarray(self._embed(name, unique, ROLE))
            if vectors.ndim != 2 or len(vectors) != len(unique):
                raise LeafkitError(
                    f"{name}: vectors of shape {vectors.shape} for {len(unique)} texts",
                    "delete its vector store",
                )
            finite = np.isfinite(vectors).all(axis=1)
            if not finite.all():
                first = unique[int(np.argmin(finite))]
                raise LeafkitError(
                    f"{name}: the vector of {first[:80]!r} is not finite (and "
                    f"{int((~finite).sum()) - 1} more)",
                    "try precision=float32",
                )
            yield name, [vectors[r] for r in rows]


def _score_sts(file: TaskFile, vectors: _Vectors, num_resamples: int, seed: int) -> _Scores:
    first, second, gold = file.read_pairs()
    if len(gold) < 3 or len(set(gold)) == 1:
        what = (
            "only one different score"
            if len(gold) >= 3
            else f"{len(gold)} usable test pair(s), of 3 at least"
        )
        raise LeafkitError(
            f"{file.path} has {what}: there is no rank correlation",
            f"rows look like {SHAPES['sts']}",
        )
    scores, predicted = np.array(gold), []
    for name, (a, b) in vectors.of(first, second):
        predicted.append(cosines(a, b))
        if np.ptp(predicted[-1]) == 0:
            raise LeafkitError(
                f"{name} gives all pairs of {file.path} the same cosine: there is no rank "
                f"correlation"
            )
    estimates = [spearman(scores, values) for values in predicted]
    resampled = resampled_spearman(scores, np.stack(predicted, axis=1), num_resamples, seed)
    # a resample of few pairs may hold one score alone
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    if not len(resampled):
        raise LeafkitError(
            f"{file.path}: {len(gold)} pairs in {num_resamples} resamples give no interval",
            "raise bench.num_resamples",
        )
    draws = Draws(
        dict(zip(vectors.names, estimates, strict=True)),
        dict(zip(vectors.names, resampled.T, strict=True)),
        len(gold),
    )
    return _Scores(len(gold), draws, "rank correlation of cosines with the scores people gave")


def _score_clustering(file: TaskFile, vectors: _Vectors, num_resamples: int, seed: int) -> _Scores:
    rows = file.read_labelled("clustering")["test"]
    names, labels = np.unique(rows.labels, return_inverse=True)
    if len(names) == len(labels):
        raise LeafkitError(
            f"{file.path}: every test text has a label of its own: there are no clusters to find"
        )
    subsamples = draw_subsamples(labels, seed)
    values = {
        name: v_measures(points, labels, subsamples, seed)
        for name, (points,) in vectors.of(rows.texts)
    }
    how = (
        f"k-means into {len(names)} clusters, {NUM_SUBSAMPLES} subsamples of "
        f"{len(subsamples[0]):,} texts"
    )
    return _Scores(len(labels), Bootstrap(len(subsamples), num_resamples, seed).draws(values), how)


def _score_classification(
    file: TaskFile, vectors: _Vectors, num_resamples: int, seed: int
) -> _Scores:
    rows = file.read_labelled("classification")
    names, train_labels = np.unique(rows["train"].labels, return_inverse=True)
    number = {name: i for i, name in enumerate(names.tolist())}
    test_labels = np.array([number[label] for label in rows["test"].labels])
    sets = draw_training_sets(train_labels, seed)
    used = np.unique(np.concatenate(sets))  # the other train texts need no vector
    sets, train_labels = [np.searchsorted(used, s) for s in sets], train_labels[used]
    train_texts = [rows["train"].texts[i] for i in used.tolist()]
    values = {
        name: probe_hits(train, train_labels, test, test_labels, training_sets=sets, seed=seed)
        for name, (test, train) in vectors.of(rows["test"].texts, train_texts)
    }
    how = (
        f"logistic regression, {NUM_EXPERIMENTS} training sets of {SAMPLES_PER_LABEL} texts for "
        f"each of {len(names)} labels"
    )
    return _Scores(
        len(test_labels), Bootstrap(len(test_labels), num_resamples, seed).draws(values), how
    )


_SCORES = {
    "sts": _score_sts,
    "clustering": _score_clustering,
    "classification": _score_classification,
}
