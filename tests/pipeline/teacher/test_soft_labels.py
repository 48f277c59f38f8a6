"""Soft labels: the scores that rows bring, BM25's, other models'; always of the row's own
candidates, never filled in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from leafkit.core.errors import LeafkitError
from leafkit.evaluation.bm25 import search_bm25
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.teacher.soft_labels import on_one_scale
from leafkit.pipeline.teacher.stage import prepare_rows
from leafkit.pipeline.teacher.teach import recipe_task, run_teach
from leafkit.pipeline.teacher.training_table import StageRows

DOCUMENTS = [d for _, d in tiny.make_pairs(40)]
Prepare = Callable[..., StageRows]


def rows_with(num_negatives: list[int], scores: bool = False) -> list[dict[str, Any]]:
    """Rows whose negatives are the documents after their own, as many each as the list says."""
    rows: list[dict[str, Any]] = []
    for i, ((query, document), count) in enumerate(
        zip(tiny.make_pairs(40), num_negatives, strict=False)
    ):
        rows.append(
            {
                "query": query,
                "positive": document,
                "negatives": [DOCUMENTS[(i + k + 1) % 40] for k in range(count)],
            }
        )
        if scores:
            rows[-1]["scores"] = [0.9, *(0.5 - 0.01 * k - 0.001 * i for k in range(count))]
    return rows


@pytest.fixture
def write(home, tmp_path) -> Callable[..., Path]:
    def write_recipe(
        rows: list[dict[str, Any]],
        models: list[str],
        source: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        soft = {"models": models} | changes.pop("soft_labels", {})
        sources = {"pairs": {"uri": f"jsonl:{tmp_path / 'rows.jsonl'}"} | (source or {})}
        stage = tiny.tiny_stage(
            home, batching="random", num_steps=2, sources=sources, soft_labels=soft, **changes
        )
        return tiny.write_recipe(
            tmp_path / "soft.yaml",
            tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": stage}},
        )

    return write_recipe


@pytest.fixture
def prepare(write, start) -> Prepare:
    def prepare_rows_of(*words: Any, **changes: Any) -> StageRows:
        found = []
        start(
            write(*words, **changes),
            work=lambda run: found.append(
                prepare_rows(recipe_task(run, "tune", run.recipe.stages["tune"]))[1]
            ),
        )
        return found[0]

    return prepare_rows_of


def candidates(rows: StageRows, i: int) -> list[str]:
    return [rows.documents[d] for d in (rows.positives[i], *rows.negatives[i])]


def bare(query: str) -> str:
    return query.removeprefix("find the answer : ")


def test_rows_bring_their_own(prepare: Prepare) -> None:
    given = rows_with([2, 3, 1, 0, 2], scores=True)
    rows = prepare(given, ["rows"])
    assert [s.tolist() for s in rows.soft] == [pytest.approx(row["scores"]) for row in given]


def test_rows_without_scores_are_refused_not_filled(prepare: Prepare) -> None:
    given = rows_with([2] * 5, scores=True)
    del given[3]["scores"]
    with pytest.raises(
        LeafkitError,
        match="brings 0 scores for 3 candidates: they are soft labels of another candidate list",
    ) as e:
        prepare(given, ["rows"])
    assert given[3]["query"][:60] in str(e.value)
    assert "soft_labels.models" in e.value.hint


def test_scores_of_another_candidate_list_are_refused(prepare: Prepare) -> None:
    """Mining adds negatives that nobody scored."""
    mining = {
        "model": "start",
        "num_negatives": 3,
        "first_rank": 0,
        "last_rank": 20,
        "max_positive_share": 0.0,
    }
    with pytest.raises(LeafkitError, match="brings 3 scores for 4 candidates"):
        prepare(rows_with([2] * 20, scores=True), ["rows"], mining=mining)


def test_rows_of_labels_bring_no_scores(prepare: Prepare) -> None:
    rows = [{"text": q, "label": i % 2} for i, (q, _) in enumerate(tiny.make_pairs(8))]
    mining = {"model": "start", "num_negatives": 2, "last_rank": 60}
    with pytest.raises(LeafkitError, match="brings 0 scores for 3 candidates"):
        prepare(rows, ["rows"], source={"task": "clustering"}, mining=mining)


def test_bm25_is_scaled_by_the_rows_best(prepare: Prepare) -> None:
    rows = prepare(rows_with([3, 1, 2, 3, 3]), ["bm25"])
    own = list(dict.fromkeys(text for i in range(5) for text in candidates(rows, i)))
    queries = [bare(q) for q in rows.queries]
    ranking = search_bm25(queries, own, len(own))
    for i in range(5):
        by_text = {own[d]: s for d, s in zip(ranking.positions[i], ranking.scores[i], strict=True)}
        expected = np.array([by_text[text] for text in candidates(rows, i)])
        assert rows.soft[i] == pytest.approx(expected / expected.max(), abs=1e-5)
        assert len(rows.soft[i]) == 1 + len(rows.negatives[i])
        assert max(rows.soft[i]) == pytest.approx(1.0)


def test_a_query_without_a_known_word_has_scores_of_zero(prepare: Prepare) -> None:
    rows = prepare(
        [
            {"query": "zzzz", "positive": "the matrix", "negatives": ["the vector"]},
            *rows_with([1, 1]),
        ],
        ["bm25"],
    )
    assert rows.soft[0].tolist() == [0.0, 0.0]


def dense_scores(folder: Path, rows: StageRows, prompt: str = "") -> list[np.ndarray]:
    """Another way to them: one text at a time, without stores."""
    encoder = read_encoder(folder)
    encoder = tiny.with_spec(encoder, prompts={"query": prompt or encoder.prompt("query")})

    def embed(text: str, role: str, limit: int) -> np.ndarray:
        return encoder.finish(encoder(encoder.tokenize([text], role, limit)).detach()).numpy()[0]

    return [
        np.array(
            [
                embed(bare(query), "query", 32) @ embed(text, "document", 48)
                for text in candidates(rows, i)
            ]
        )
        for i, query in enumerate(rows.queries)
    ]


def test_a_dense_model_sees_its_own_prompt(prepare: Prepare, home) -> None:
    rows = prepare(rows_with([3, 0, 2, 1, 3]), [f"model:{home / 'big'}"])
    for mine, theirs in zip(rows.soft, dense_scores(home / "big", rows), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-3)  # stores hold float16


def test_a_template_for_the_models_replaces_their_prompt(prepare: Prepare, home) -> None:
    given = rows_with([3, 2, 3])
    own = prepare(given, [f"model:{home / 'big'}"])
    rows = prepare(
        given,
        [f"model:{home / 'big'}"],
        soft_labels={"query_template": "{instruction} sort the {query}"},
    )
    for mine, theirs in zip(
        rows.soft, dense_scores(home / "big", rows, "find the answer sort the "), strict=True
    ):
        assert mine == pytest.approx(theirs, abs=2e-3)
    assert np.abs(np.concatenate(own.soft) - np.concatenate(rows.soft)).max() > 0.01


def test_several_models_are_averaged_on_the_scale_of_the_cosines(prepare: Prepare, home) -> None:
    given = rows_with([3, 1, 2])
    dense, words = prepare(given, [f"model:{home / 'big'}"]), prepare(given, ["bm25"])
    both = prepare(given, ["bm25", f"model:{home / 'big'}"])

    def centred(rows: StageRows) -> np.ndarray:
        return np.concatenate([scores - scores.mean() for scores in rows.soft])

    def spread(rows: StageRows) -> float:
        return float(np.sqrt((centred(rows) ** 2).mean()))

    assert spread(words) > 3 * spread(dense)  # BM25 alone would decide
    expected = (centred(dense) + centred(words) * spread(dense) / spread(words)) / 2
    assert centred(both) == pytest.approx(expected, abs=1e-5)
    for mean, one in zip(both.soft, dense.soft, strict=True):
        assert mean.mean() == pytest.approx(one.mean(), abs=1e-5)


@pytest.mark.parametrize("factor", [0.01, 1, 50])
def test_a_models_unit_does_not_decide_how_much_it_counts(factor: float) -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(size=(2, 6, 4))
    present = np.ones((6, 4), dtype=bool)
    present[2, 1:] = False
    both = on_one_scale([one, other * factor + 3], [True, False], present)
    assert both[present] == pytest.approx(
        on_one_scale([one, other], [True, False], present)[present]
    )
    assert on_one_scale([one], [True], present) is one


def test_a_model_that_gives_all_candidates_one_score_says_nothing() -> None:
    one, flat = np.array([[0.5, 0.25]]), np.array([[0.0, 0.0]])
    present = np.ones((1, 2), dtype=bool)
    assert on_one_scale([one, flat], [True, False], present).tolist() == [[0.4375, 0.3125]]


def test_mined_candidates_are_scored_and_the_vectors_used_again(
    prepare: Prepare, home, capsys
) -> None:
    mining = {
        "model": "start",
        "num_negatives": 3,
        "first_rank": 0,
        "last_rank": 20,
        "max_positive_share": 0.0,
    }
    rows = prepare(rows_with([0] * 20), [f"model:{home / 'small'}"], mining=mining)
    assert {len(s) for s in rows.soft} == {4}
    for mine, theirs in zip(rows.soft, dense_scores(home / "small", rows), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-3)
    shown = capsys.readouterr().out
    assert shown.count("small vectors of pairs documents: 20 texts") == 1
    assert "small vectors of pairs documents: up to date" in shown
    assert "vectors of pairs candidates" not in shown


def test_without_soft_models_scores_of_rows_are_not_used(prepare: Prepare) -> None:
    assert [s.tolist() for s in prepare(rows_with([2] * 4, scores=True), []).soft] == [[]] * 4


@pytest.mark.slow
def test_soft_labels_change_the_training_and_a_changed_model_trains_again(
    write, start, home, tmp_path
) -> None:
    other = tiny.write_model(tmp_path / "other", hidden=32, seed=9)
    recipe = write(rows_with([2] * 24), [f"model:{other}"])
    run = start(recipe, work=run_teach)
    losses = (run.folder / "tune" / "losses.json").read_text()
    assert {s["name"]: s["status"] for s in start(recipe, work=run_teach).steps}[
        "tune"
    ] == "up to date"
    tiny.write_model(other, hidden=32, seed=10)
    again = start(recipe, work=run_teach)
    assert {s["name"]: s["status"] for s in again.steps}["tune"] == "done"
    assert (run.folder / "tune" / "losses.json").read_text() != losses
    plain = start(write(rows_with([2] * 24), []), work=run_teach)
    assert (plain.folder / "tune" / "losses.json").read_text() != losses
