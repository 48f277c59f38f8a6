"""Tasks without a search: sentence similarity, clustering and classification, for students that
serve more than queries.

``sts:PATH`` holds rows {"s1", "s2", "score"}, ``clustering:PATH`` and ``classification:PATH`` rows
{"text", "label"}, as jsonl. Rows whose "split" is test, or that have none, are measured; train rows
train the probe. Both texts of a pair are of one kind, so every text is embedded as a query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from leafkit.config.schema import EMBEDDING_TASKS, DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.data.records import clean_text
from leafkit.data.sources import BadRows, is_number, read_raw_rows
from leafkit.evaluation.bootstrap import Bootstrap, Draws
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

Embed = Callable[[str, Sequence[str], str], np.ndarray]  # (side, texts, role) -> (n, D) float32
ROLE = "query"
METRICS = {"sts": "spearman", "clustering": "v_measure", "classification": "accuracy"}
_DIFFERENCES = (("student", "teacher"), ("student", "baseline"), ("teacher", "baseline"))
_SHAPES = {
    "sts": '{"s1", "s2", "score", "split": "test"}',
    "clustering": '{"text", "label", "split": "test"}',
    "classification": '{"text", "label", "split": "train" or "test"}',
}


@dataclass(frozen=True, slots=True)
class _Scores:
    """What a task gives: the number of test rows, estimates of all sides with their resamples, and
    how it was measured.
    """

    num_rows: int
    draws: Draws[str]
    how: str


@dataclass(slots=True)
class _Labelled:
    """Texts with their labels and where each row stands."""

    texts: list[str]
    labels: list[str]


def run_task(
    uri: str,
    sides: Iterable[str],
    embed: Embed,
    num_resamples: int,
    seed: int,
    data: DataConfig | None = None,
) -> dict[str, Any]:
    """Measure every side on one task, with paired intervals.

    The interval of sts and classification is over the test rows, that of clustering over its
    subsamples, which overlap: it says how much k-means and the draw decide, not how other texts
    would do.

    Args:
        uri: sts:PATH, clustering:PATH or classification:PATH.
        sides: names of what is compared, "teacher", "student", "baseline".
        embed: vectors of texts by side and role; called once per side, with different texts.
        num_resamples: of the bootstrap.
        seed: of every draw; all sides share them.
        data: what to do with bad rows; None stops at the first.

    Returns:
        kind, name, metric, n, how, counts; rows, one per side, and differences, with mean, low and
        high.

    Raises:
        UsageError: the task is of no known kind, or its file does not exist.
        LeafkitError: a row is bad and the policy is to stop, there is nothing to measure, or
            vectors are not usable.
        MissingExtra: clustering and classification without scikit-learn.
    """
    kind, path = _split_uri(uri)
    data = data or DataConfig()
    names, counts = list(sides), Counter[str]()
    bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
    vectors = _Vectors(names, embed)
    score = {
        "sts": _score_sts,
        "clustering": _score_clustering,
        "classification": _score_classification,
    }[kind]
    scores = score(path, vectors, bad, counts, num_resamples, seed)
    return {
        "kind": kind,
        "name": Path(path).stem,
        "metric": METRICS[kind],
        "n": scores.num_rows,
        "how": scores.how,
        "counts": dict(counts),
        "rows": [{"system": name} | scores.draws.mean(name).to_plain() for name in names],
        "differences": [
            {"label": f"{a} - {b}", "metric": METRICS[kind]}
            | scores.draws.difference(a, b).to_plain()
            for a, b in _DIFFERENCES
            if a in names and b in names
        ],
    }


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
    """Vectors of texts on every side; each text is embedded once."""

    def __init__(self, names: Sequence[str], embed: Embed) -> None:
        self.names, self._embed = names, embed

    def of(self, *groups: Sequence[str]) -> Iterator[tuple[str, list[np.ndarray]]]:
        """Per side its name and an (n, D) array for each group of texts.

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


def _score_sts(
    path: str, vectors: _Vectors, bad: BadRows, counts: Counter[str], num_resamples: int, seed: int
) -> _Scores:
    first, second, gold = _read_pairs(path, bad, counts)
    if len(gold) < 3 or len(set(gold)) == 1:
        what = (
            "only one different score"
            if len(gold) >= 3
            else f"{len(gold)} usable test pair(s), of 3 at least"
        )
        raise LeafkitError(
            f"{path} has {what}: there is no rank correlation", f"rows look like {_SHAPES['sts']}"
        )
    scores, predicted = np.array(gold), []
    for name, (a, b) in vectors.of(first, second):
        predicted.append(cosines(a, b))
        if np.ptp(predicted[-1]) == 0:
            raise LeafkitError(
                f"{name} gives all pairs of {path} the same cosine: there is no rank correlation"
            )
    estimates = [spearman(scores, values) for values in predicted]
    resampled = resampled_spearman(scores, np.stack(predicted, axis=1), num_resamples, seed)
    # a resample of few pairs may hold one score alone
    resampled = resampled[np.isfinite(resampled).all(axis=1)]
    if not len(resampled):
        raise LeafkitError(
            f"{path}: {len(gold)} pairs in {num_resamples} resamples give no interval",
            "raise bench.num_resamples",
        )
    draws = Draws(
        dict(zip(vectors.names, estimates, strict=True)),
        dict(zip(vectors.names, resampled.T, strict=True)),
    )
    return _Scores(len(gold), draws, "rank correlation of cosines with the scores people gave")


def _score_clustering(
    path: str, vectors: _Vectors, bad: BadRows, counts: Counter[str], num_resamples: int, seed: int
) -> _Scores:
    rows = _read_labelled(path, "clustering", bad, counts)["test"]
    names, labels = np.unique(rows.labels, return_inverse=True)
    if len(names) == len(labels):
        raise LeafkitError(
            f"{path}: every test text has a label of its own: there are no clusters to find"
        )
    subsamples = draw_subsamples(labels, seed)
    values = {
        name: v_measures(side, labels, subsamples, seed) for name, (side,) in vectors.of(rows.texts)
    }
    how = (
        f"k-means into {len(names)} clusters, {NUM_SUBSAMPLES} subsamples of "
        f"{len(subsamples[0]):,} texts"
    )
    return _Scores(len(labels), Bootstrap(len(subsamples), num_resamples, seed).draws(values), how)


def _score_classification(
    path: str, vectors: _Vectors, bad: BadRows, counts: Counter[str], num_resamples: int, seed: int
) -> _Scores:
    rows = _read_labelled(path, "classification", bad, counts)
    names, train_labels = np.unique(rows["train"].labels, return_inverse=True)
    number = {name: i for i, name in enumerate(names.tolist())}
    test_labels = np.array([number[label] for label in rows["test"].labels])
    sets = draw_training_sets(train_labels, seed)
    used = np.unique(np.concatenate(sets))  # the other train texts need no vector
    sets, train_labels = [np.searchsorted(used, s) for s in sets], train_labels[used]
    train_texts = [rows["train"].texts[i] for i in used.tolist()]
    values = {
        name: probe_hits(train, train_labels, test, test_labels, sets, seed)
        for name, (test, train) in vectors.of(rows["test"].texts, train_texts)
    }
    how = (
        f"logistic regression, {NUM_EXPERIMENTS} training sets of {SAMPLES_PER_LABEL} texts for "
        f"each of {len(names)} labels"
    )
    return _Scores(
        len(test_labels), Bootstrap(len(test_labels), num_resamples, seed).draws(values), how
    )


def _read_pairs(
    path: str, bad: BadRows, counts: Counter[str]
) -> tuple[list[str], list[str], list[float]]:
    first, second, gold = [], [], []
    for where, row in read_raw_rows(f"jsonl:{path}", bad):
        if _split(where, row, bad) != "test":
            continue
        texts = [_text(where, row, key, bad, counts) for key in ("s1", "s2")]
        score = row.get("score")
        if not is_number(score):
            bad.refuse(
                where, f"'score' is {'missing' if score is None else f'{score!r}, not a number'}"
            )
        elif all(texts):
            first.append(texts[0])
            second.append(texts[1])
            gold.append(float(score))
    return first, second, gold


def _read_labelled(
    path: str, task: str, bad: BadRows, counts: Counter[str]
) -> dict[str, _Labelled]:
    """Train and test rows; of clustering test rows alone.

    Raises:
        LeafkitError: a bad row under the policy to stop, no row of a split that is needed, or one
            label alone.
    """
    splits = ("test",) if task == "clustering" else ("train", "test")
    found = {split: _Labelled([], []) for split in splits}
    places: list[str] = []
    for where, row in read_raw_rows(f"jsonl:{path}", bad):
        split = _split(where, row, bad)
        if split not in found:
            continue
        label = row.get("label")
        if isinstance(label, bool | float | list | dict) or label is None or not str(label).strip():
            bad.refuse(
                where,
                f"'label' is {'missing' if label is None else f'{label!r}, not text or a whole number'}",
            )
        elif text := _text(where, row, "text", bad, counts):
            found[split].texts.append(text)
            found[split].labels.append(str(label).strip())
            if split == "test":
                places.append(where)
    if task == "classification":
        found["test"] = _with_known_labels(found["test"], places, set(found["train"].labels), bad)
    for split in splits:
        if len(set(found[split].labels)) < 2:
            what = (
                f"no usable {split} row"
                if not found[split].labels
                else f"one label alone in its {split} rows"
            )
            raise LeafkitError(
                f"{path} has {what}: nothing to tell apart", f"rows look like {_SHAPES[task]}"
            )
    return found


def _with_known_labels(
    test: _Labelled, places: Sequence[str], known: set[str], bad: BadRows
) -> _Labelled:
    """Without test rows that no probe could get right."""
    kept = _Labelled([], [])
    for text, label, where in zip(test.texts, test.labels, places, strict=True):
        if known and label not in known:
            bad.refuse(where, f"no train row has the label {label!r}")
        else:
            kept.texts.append(text)
            kept.labels.append(label)
    return kept


def _split(where: str, row: dict[str, Any], bad: BadRows) -> str:
    split = row.get("split", "test")
    if not isinstance(split, str):
        bad.refuse(where, f"split {split!r} is not text")
        return ""
    return split


def _text(where: str, row: dict[str, Any], key: str, bad: BadRows, counts: Counter[str]) -> str:
    """The row's text under a key; "" and one bad row more where there is none."""
    value = row.get(key)
    text = clean_text(value, counts) if isinstance(value, str) else ""
    if not text:
        bad.refuse(
            where,
            f"{key!r} is {'missing' if value is None else 'empty' if isinstance(value, str) else 'not text'}",
        )
    return text
