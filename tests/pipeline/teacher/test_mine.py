"""Mining as a step: what it finds, what it may not touch, and what makes it run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from leafkit.config import to_plain
from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.teacher.mine import mine_sources
from leafkit.pipeline.teacher.sources import read_sources
from leafkit.pipeline.teacher.stage import prepare_rows
from leafkit.pipeline.teacher.teach import recipe_task, run_mine, run_teach

MINING = {
    "model": "start",
    "num_negatives": 3,
    "first_rank": 2,
    "last_rank": 12,
    "max_positive_share": 0.0,
}


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def pair_rows(count: int, start: int = 0, **extra: Any) -> list[dict[str, Any]]:
    return [{"query": q, "positive": d} | extra for q, d in tiny.make_pairs(start + count)[start:]]


@pytest.fixture
def write(home, tmp_path):
    """Write the recipe with some of its stage's settings changed."""

    def write_recipe(
        mining: dict[str, Any] | None = None, sources: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        pairs = {"uri": jsonl(tmp_path / "rows.jsonl", pair_rows(40))}
        stage = tiny.tiny_stage(
            home,
            init=f"model:{home / 'small'}",
            mining=MINING | (mining or {}),
            batching="random",
            num_steps=2,
            sources=sources or {"pairs": pairs},
            **changes,
        )
        return tiny.write_recipe(
            tmp_path / "mine.yaml",
            tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": stage}},
        )

    return write_recipe


def statuses(run) -> dict[str, str]:
    return {step["name"]: step["status"] for step in run.steps}


def mined_rows(run, source: str = "pairs") -> list[dict[str, Any]]:
    path = run.folder / "mined" / "tune" / source / "rows.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepared(run):
    return prepare_rows(recipe_task(run, "tune", run.recipe.stages["tune"]))


def test_the_artifact_holds_ranks_and_scores_of_another_computation(write, start, home):
    """numpy ranks the documents from the model's own vectors; every negative lies where the file
    says it does.
    """
    run = start(write(), work=run_mine)
    manifest = open_artifact(run.folder / "mined" / "tune" / "pairs", "mine tune pairs")
    assert manifest.metrics["rows"] == manifest.metrics["kept"] == 40
    encoder = read_encoder(home / "small")
    pairs = tiny.make_pairs(40)
    documents = [d for _, d in pairs]

    def embed(texts: list[str], role: str, limit: int) -> np.ndarray:
        raw = encoder(encoder.tokenize(texts, role, limit)).detach()
        # as stores keep them
        return encoder.finish(raw).numpy().astype(np.float16).astype(np.float32)

    scores = embed([q for q, _ in pairs], "query", 32) @ embed(documents, "document", 48).T
    rows = mined_rows(run)
    assert [row["query"] for row in rows] == [q for q, _ in pairs]
    for i, row in enumerate(rows):
        others = [d for d in np.argsort(-scores[i]) if d != i]
        found = [documents.index(text) for text in row["negatives"]]
        assert [others.index(d) for d in found] == row["negative_ranks"]
        assert row["negative_scores"] == pytest.approx(scores[i][found].tolist(), abs=1e-4)
        assert row["positive_score"] == pytest.approx(float(scores[i, i]), abs=1e-4)
        assert row["positive_rank"] == min(12, int((scores[i] > scores[i, i]).sum()))
        assert len(set(found)) == 3
        assert all(2 <= rank < 12 for rank in row["negative_ranks"])
        assert row["negative_scores"] == sorted(row["negative_scores"], reverse=True)


def test_the_rows_file_is_a_source_of_training_rows(write, start, tmp_path):
    run = start(write(), work=run_mine)
    uri = f"jsonl:{run.folder / 'mined' / 'tune' / 'pairs' / 'rows.jsonl'}"
    found = []
    recipe = write(mining={"model": "", "num_negatives": 0}, sources={"mined": {"uri": uri}})
    start(recipe, work=lambda run: found.extend(prepared(run)))
    rows = found[1]
    assert len(rows) == 40
    assert [len(given) for given in rows.negatives] == [3] * 40


def test_mined_negatives_train(write, start):
    sources, rows = [], []
    start(
        write(), work=lambda run: (sources.extend(prepared(run)[0]), rows.append(prepared(run)[1]))
    )
    assert [len(given) for given in rows[0].negatives] == [3] * 40
    for query, given, known in zip(
        rows[0].queries, rows[0].negatives, rows[0].relevant, strict=True
    ):
        assert query.startswith("find the answer : ")
        assert not set(given.tolist()) & set(known.tolist())


def test_rows_keep_what_they_brought_and_are_filled_up(write, start, tmp_path):
    documents = [d for _, d in tiny.make_pairs(60)]
    rows = pair_rows(40)
    rows[0]["negatives"] = [documents[50]]
    rows[1]["negatives"] = documents[51:56]
    rows[2]["negatives"] = documents[51:54]
    found = []
    recipe = write(sources={"pairs": {"uri": jsonl(tmp_path / "more.jsonl", rows)}})
    start(recipe, work=lambda run: found.append(prepared(run)[1]))
    texts = [[found[0].documents[d] for d in given] for given in found[0].negatives]
    assert texts[0][0] == documents[50]
    assert len(set(texts[0])) == 3
    assert texts[1] == documents[51:54]
    assert texts[2] == documents[51:54]
    assert {len(given) for given in texts} == {3}


def test_the_filter_drops_rows_whose_positive_ranks_low(write, start, tmp_path, capsys):
    """Ten rows whose positive answers another query: a model that sees words ranks it low."""
    wrong = tiny.make_pairs(50)[40:]
    shifted = [{"query": q, "positive": wrong[(i + 5) % 10][1]} for i, (q, _) in enumerate(wrong)]
    uri = jsonl(tmp_path / "some.jsonl", pair_rows(40) + shifted)
    recipe = write(mining={"filter_rank": 10, "num_negatives": 0}, sources={"pairs": {"uri": uri}})
    found = []
    run = start(recipe, work=lambda run: found.extend(prepared(run)))
    (source,), rows = found
    dropped = 50 - len(rows)
    assert dropped == source.rows.counts["rows whose positive is not among the top 10"]
    assert len(mined_rows(run)) == len(rows)
    assert {row["positive_rank"] for row in mined_rows(run)} <= set(range(10))
    kept_wrong = len(
        {r["query"] for r in shifted} & {q.removeprefix("find the answer : ") for q in rows.queries}
    )
    assert kept_wrong / 10 < (len(rows) - kept_wrong) / 40
    assert (
        f"{dropped} of 50 rows whose positive is not among the top 10 left out"
        in capsys.readouterr().out
    )


def test_a_filter_that_keeps_no_row_is_an_error(write, start, tmp_path):
    """Each query's own text is a document, and another one its positive."""
    rows = [{"query": "buffer", "positive": "kernel"}, {"query": "kernel", "positive": "buffer"}]
    uri = jsonl(tmp_path / "none.jsonl", rows)
    recipe = write(mining={"filter_rank": 1, "num_negatives": 0}, sources={"pairs": {"uri": uri}})
    with pytest.raises(
        UsageError, match="source pairs: no row's positive is among the top 1"
    ) as caught:
        start(recipe, work=prepared)
    assert "mining.filter_rank" in caught.value.hint


@pytest.mark.parametrize(("policy", "expected"), [("keep", 6), ("drop", None)])
def test_too_few_documents_are_a_counted_shortfall(write, start, tmp_path, policy, expected):
    uri = jsonl(tmp_path / "few.jsonl", pair_rows(6))
    recipe = write(
        mining={"num_negatives": 7, "first_rank": 0, "on_shortfall": policy},
        sources={"pairs": {"uri": uri}},
    )
    if expected is None:
        with pytest.raises(UsageError, match="source pairs: no row has 7 hard negatives"):
            start(recipe, work=prepared)
        return
    found = []
    start(recipe, work=lambda run: found.extend(prepared(run)))
    (source,), rows = found
    assert [len(given) for given in rows.negatives] == [5] * expected  # never filled
    assert source.rows.counts == {"rows with fewer than 7 hard negatives kept": 6}


def test_rows_of_labels_are_not_searched_but_counted(write, start, tmp_path):
    labels = jsonl(
        tmp_path / "labels.jsonl",
        [{"text": f"{v} the matrix", "label": i % 2} for i, v in enumerate(tiny.VERBS[:8])],
    )
    pairs = {"uri": jsonl(tmp_path / "rows.jsonl", pair_rows(20))}
    recipe = write(
        mining={"num_negatives": 6},
        sources={"labels": {"uri": labels, "task": "clustering"}, "pairs": pairs},
    )
    found = []
    run = start(recipe, work=lambda run: found.extend(prepared(run)))
    sources, rows = found
    assert not (run.folder / "mined" / "tune" / "labels").exists()
    assert [len(given) for given in rows.negatives][:8] == [4] * 8
    assert sources[0].rows.counts["rows with fewer than 6 hard negatives kept"] == 8


# --- what runs again


def test_a_second_run_mines_nothing_and_gives_the_same_rows(write, start):
    recipe, found = write(), []
    first = start(recipe, work=lambda run: found.append(prepared(run)[1]))
    second = start(recipe, work=lambda run: found.append(prepared(run)[1]))
    assert statuses(first)["mine tune pairs"] == "done"
    assert set(statuses(second).values()) == {"up to date"}
    a, b = found
    assert (a.queries, a.documents) == (b.queries, b.documents)
    assert [x.tolist() for x in a.negatives] == [x.tolist() for x in b.negatives]


NO_MATTER = [
    "stages.tune.optimizer.lr=0.5",
    "stages.tune.num_steps=3",
    "stages.tune.instruction=other",
    "stages.tune.sources.pairs.weight=2",
    "stages.tune.soft_labels.models=[bm25]",
]
MATTER = [
    "stages.tune.mining.num_negatives=2",
    "stages.tune.mining.max_positive_share=0.9",
    "stages.tune.mining.first_rank=3",
    "seed=43",
    "data.max_document_tokens=47",
]


@pytest.mark.slow
def test_settings_mine_again_only_where_they_matter(write, start):
    recipe = write()
    start(recipe, work=run_mine)
    for change in NO_MATTER:
        assert (change, statuses(start(recipe, change, work=run_mine))["mine tune pairs"]) == (
            change,
            "up to date",
        )
    for change in MATTER:
        assert (change, statuses(start(recipe, change, work=run_mine))["mine tune pairs"]) == (
            change,
            "done",
        )


@pytest.mark.slow
def test_another_source_file_or_mining_model_mines_again(write, start, tmp_path, home):
    recipe = write()
    start(recipe, work=run_mine)
    rows = [
        *pair_rows(40),
        {"query": "count the socket", "positive": "the socket and the count value"},
    ]
    jsonl(tmp_path / "rows.jsonl", rows)
    run = start(recipe, work=run_mine)
    assert statuses(run)["mine tune pairs"] == "done"
    assert len(mined_rows(run)) == 41
    other = tiny.write_model(tmp_path / "other", hidden=32, seed=7)
    change = f"stages.tune.mining.model=model:{other}"
    assert statuses(start(recipe, change, work=run_mine))["mine tune pairs"] == "done"
    assert set(statuses(start(recipe, change, work=run_mine)).values()) == {"up to date"}
    tiny.write_model(other, hidden=32, seed=8)
    assert statuses(start(recipe, change, work=run_mine))["mine tune pairs"] == "done"


def test_a_new_row_does_not_change_the_draw_of_the_others(write, start, tmp_path):
    """Rows are known by their texts; the same window gives the same negatives."""
    recipe = write()
    before = {row["query"]: row for row in mined_rows(start(recipe, work=run_mine))}
    rows = [
        {"query": "merge the archive", "positive": before[next(iter(before))]["positive"]},
        *pair_rows(40),
    ]
    jsonl(tmp_path / "rows.jsonl", rows)
    after = {row["query"]: row for row in mined_rows(start(recipe, work=run_mine))}
    assert {q: after[q]["negatives"] for q in before} == {
        q: row["negatives"] for q, row in before.items()
    }


@pytest.mark.slow
def test_a_stage_that_mines_with_its_start_mines_again_when_the_start_was_trained_anew(
    write, start, home, tmp_path
):
    recipe = load_recipe(str(write()))
    stages = {
        "weak": tiny.tiny_stage(home, num_steps=2),
        "tune": to_plain(recipe.stages["tune"]) | {"init": "stage:weak"},
    }
    path = tiny.write_recipe(
        tmp_path / "two.yaml", tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": stages}
    )
    assert statuses(start(path, work=run_teach))["mine tune pairs"] == "done"
    assert set(statuses(start(path, work=run_teach)).values()) == {"up to date"}
    later = statuses(start(path, "stages.tune.optimizer.lr=0.002", work=run_teach))
    assert (later["weak"], later["mine tune pairs"], later["tune"]) == (
        "up to date",
        "up to date",
        "done",
    )
    later = statuses(
        start(
            path, "stages.weak.optimizer.lr=0.002", "stages.tune.optimizer.lr=0.002", work=run_teach
        )
    )
    assert (later["weak"], later["mine tune pairs"], later["tune"]) == ("done", "done", "done")


def test_a_damaged_artifact_is_named(write, start):
    recipe = write()
    path = start(recipe, work=run_mine).folder / "mined" / "tune" / "pairs" / "mined.npz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        LeafkitError, match=r"tune/pairs/mined\.npz does not have the sha256 in its manifest"
    ):
        start(recipe, work=run_mine)


# --- leafkit mine


@pytest.mark.slow
def test_mine_trains_earlier_stages_alone(write, start, home, tmp_path):
    recipe = load_recipe(str(write()))
    tune = to_plain(recipe.stages["tune"]) | {"init": "stage:weak"}
    stages = {
        "weak": tiny.tiny_stage(home, num_steps=2),
        "tune": tune,
        "last": tiny.tiny_stage(home, init="stage:tune"),
    }
    path = tiny.write_recipe(
        tmp_path / "three.yaml", tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": stages}
    )
    folders = []
    run = start(path, work=lambda run: folders.extend(run_mine(run)))
    assert folders == [run.folder / "mined" / "tune" / "pairs"]
    assert (run.folder / "weak").is_dir()
    assert not (run.folder / "tune").exists()
    done = statuses(start(path, work=run_teach))
    assert (done["weak"], done["mine tune pairs"], done["tune"], done["last"]) == (
        "up to date",
        "up to date",
        "done",
        "done",
    )


def test_a_recipe_that_mines_nothing_is_refused(write, start):
    with pytest.raises(UsageError, match="recipe mine has no stage that mines"):
        start(write(mining={"model": "", "num_negatives": 0}), work=run_mine)


def test_all_sources_of_a_stage_are_mined_each_among_its_own_documents(write, start, tmp_path):
    sources = {
        name: {"uri": jsonl(tmp_path / f"{name}.jsonl", pair_rows(20, first))}
        for name, first in (("one", 0), ("two", 20))
    }
    run = start(write(sources=sources), work=run_mine)
    for name, first in (("one", 0), ("two", 20)):
        own = {d for _, d in tiny.make_pairs(first + 20)[first:]}
        rows = mined_rows(run, name)
        assert len(rows) == 20
        assert all(set(row["negatives"]) <= own for row in rows)


def test_negatives_given_beyond_the_wanted_number_are_cut_with_their_scores(write, start, tmp_path):
    documents = [d for _, d in tiny.make_pairs(60)]
    rows = [
        row | {"negatives": documents[40:45], "scores": [1, 0.5, 0.4, 0.3, 0.2, 0.1]}
        for row in pair_rows(12)
    ]
    uri = jsonl(tmp_path / "given.jsonl", rows)
    for mining in ({}, {"model": "start", "filter_rank": 1000}):
        found = []

        def work(run, found=found):
            task = recipe_task(run, "tune", run.recipe.stages["tune"])
            sources = read_sources(task)
            mine_sources(task, sources)
            found.extend(sources)

        start(write(mining=mining, sources={"pairs": {"uri": uri}}), work=work)
        assert [given[:3] for given in found[0].rows.scores] == [[1, 0.5, 0.4]] * 12
        assert {len(given) for given in found[0].rows.scores} == {4}
        assert {len(given) for given in found[0].rows.negatives} == {3}
