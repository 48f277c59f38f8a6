"""The training texts of a pair, as far as recipes name them, against the collections it is measured
on.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import tiny

from leafkit.config import to_plain
from leafkit.config.load import load_recipe
from leafkit.core.artifact import publish
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.evaluate.contamination import check_contamination, list_training
from leafkit.pipeline.evaluate.corpora import BenchCorpus
from leafkit.pipeline.run import Run
from leafkit.results import Overlap

LONG = "the first value and the second value of the matrix and the vector and the graph"
TEACHER, STUDENT = (
    SimpleNamespace(name="big", reference="model:big"),
    SimpleNamespace(name="tiny-student", reference="model:small"),
)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


@pytest.fixture
def check(home, tmp_path, start):
    """Contamination of the corpus and of further collections under a recipe."""

    def run(*overrides, away=(), **changes):
        recipe = tiny.tiny_recipe(home, tmp_path / "ck")
        for key, value in changes.items():
            recipe[key] = recipe.get(key, {}) | value
        found = []

        def work(r: Run):
            corpora = [
                BenchCorpus(load_corpus(r, r.recipe.data.corpus), "in-domain", 48),
                *(BenchCorpus(load_corpus(r, uri), "out-of-domain", 48) for uri in away),
            ]
            found.append(check_contamination(r, TEACHER, STUDENT, corpora))

        done = start(tiny.write_recipe(tmp_path / "tiny.yaml", recipe), *overrides, work=work)
        return found[0], done

    return run


def pairs(split="test", start=200, stop=206):
    rows = tiny.make_pairs(stop)[start:stop]
    return [{"query": query, "positive": document, "split": split} for query, document in rows]


def test_the_corpus_trains_its_documents_by_design_and_its_test_queries_are_clean(check):
    found, _ = check()
    corpus = found["pairs"]
    assert corpus.documents == Overlap(total=72, exact=72, near=0)
    assert corpus.queries == Overlap(total=12, exact=0, near=0)
    assert corpus.training_texts == 72 + 56
    assert any("by design" in note for note in corpus.notes)
    assert any("model:big" in note and "bench.training_sources" in note for note in corpus.notes)


def test_a_test_query_among_the_students_sources_is_found(check, home, tmp_path):
    query = json.loads((home / "pairs.jsonl").read_text().splitlines()[3])["query"]
    uri = write_rows(
        tmp_path / "more.jsonl", [{"text": f"  {query.upper()}  "}, {"text": "something else"}]
    )
    found, _ = check(data={"sources": {"more": {"uri": uri}}})
    assert found["pairs"].queries == Overlap(total=12, exact=1, near=0)
    assert found["pairs"].examples[0].training == query.upper()
    limited, _ = check(data={"sources": {"more": {"uri": uri, "limit": 1}}})
    assert limited["pairs"].training_texts == found["pairs"].training_texts - 1
    asked, _ = check(data={"sources": {"more": {"uri": uri, "take": "as_queries"}}})
    assert asked["pairs"].queries == found["pairs"].queries


def test_of_a_source_only_what_is_taken_counts(check, home, tmp_path):
    rows = [
        {"query": f"question {n}", "positive": f"answer {n}", "split": "train"} for n in range(3)
    ]
    uri = write_rows(tmp_path / "more.jsonl", rows)
    counts = {}
    for take in ("all", "queries", "documents"):
        found, _ = check(data={"sources": {"more": {"uri": uri, "take": take}}})
        counts[take] = found["pairs"].training_texts
    assert counts["queries"] == counts["documents"] == counts["all"] - 3


def test_all_texts_count_that_the_start_model_may_have_chosen(check, home, tmp_path):
    query = json.loads((home / "pairs.jsonl").read_text().splitlines()[3])["query"]
    rows = [{"text": query}, *({"text": f"something else {n}"} for n in range(5))]
    uri = write_rows(tmp_path / "more.jsonl", rows)
    source = {"uri": uri, "limit": 1, "choose": "leverage"}
    found = check(data={"sources": {"more": source}})[0]["pairs"]
    whole = check(data={"sources": {"more": {"uri": uri}}})[0]["pairs"]
    assert found.queries.exact == 1
    assert found.training_texts == whole.training_texts


def test_an_away_collection_is_checked_against_home(check, home, tmp_path):
    # a training row of home
    known = json.loads((home / "pairs.jsonl").read_text().splitlines()[40])
    away = write_rows(
        tmp_path / "away.jsonl",
        [
            *pairs(),
            {"query": known["query"], "positive": f"{LONG} and more", "split": "test"},
            {"text": known["positive"].title()},
        ],
    )
    found, _ = check(away=[away])
    assert found["away"].queries.exact == 1
    assert found["away"].documents.exact == 1
    assert not any("by design" in note for note in found["away"].notes)


def teacher_recipe(tmp_path, home, **changes):
    recipe = tiny.tiny_recipe(home, tmp_path / "ck") | {
        "stages": {"tune": tiny.tiny_stage(home, **changes)}
    }
    return f"recipe:{tiny.write_recipe(tmp_path / 'maker.yaml', recipe)}"


def test_the_stages_of_the_teachers_recipe_are_read(check, home, tmp_path):
    away = write_rows(
        tmp_path / "away.jsonl", [{"query": "what is sorted", "positive": LONG, "split": "test"}]
    )
    rows = write_rows(
        tmp_path / "rows.jsonl",
        [{"query": "Find it", "positive": f"They said: {LONG.upper()}!", "split": "train"}],
    )
    scored = write_rows(
        tmp_path / "sts.jsonl",
        [{"s1": "What is sorted?", "s2": "What gets sorted?", "score": 5.0, "split": "train"}],
    )
    sources = {"rows": {"uri": rows}, "sts": {"uri": scored, "task": "sts"}}
    found, _ = check(
        away=[away], teacher={"source": teacher_recipe(tmp_path, home, sources=sources)}
    )
    assert found["away"].queries == Overlap(total=1, exact=1, near=0)
    assert found["away"].documents == Overlap(total=1, exact=0, near=1)
    assert {e.kind for e in found["away"].examples} == {"exact", "near"}
    assert f"model:{home / 'small'}" in found["away"].notes[-1]


def test_a_teacher_trained_at_home_adds_no_text_twice(check, home, tmp_path, start):
    found, _ = check(teacher={"source": teacher_recipe(tmp_path, home)})
    assert found["pairs"].training_texts == 72 + 56  # one source, listed once


def test_models_from_elsewhere_are_not_known(check, home):
    found, run = check(bench={"student": f"model:{home / 'small'}"})
    assert list(found) == ["pairs"]
    assert found["pairs"].unknown == (
        "the training texts of model:small, model:big are not known; name them with "
        "bench.training_sources"
    )
    assert not any(step["name"] == "contamination" for step in run.steps)


def test_disclosed_sources_take_the_place_of_what_is_not_known(check, home, tmp_path):
    query = json.loads((home / "pairs.jsonl").read_text().splitlines()[0])["query"]
    uri = write_rows(
        tmp_path / "disclosed.jsonl",
        [
            {"s1": query, "s2": "other words"},
            {"anchor": "a b", "pos": ["c d", "e f"], "neg": ["g h"]},
            {"title": "i", "text": "j"},
            {"query": "left out", "positive": "left out too", "split": "test"},
        ],
    )
    found, _ = check(bench={"student": f"model:{home / 'small'}", "training_sources": [uri]})
    assert found["pairs"].queries.exact == 1
    assert found["pairs"].training_texts == 7
    assert found["pairs"].notes == ()


def test_a_disclosed_collection_is_read_as_one(check, home, tmp_path, shared_data):
    found, _ = check(
        away=[f"beir:{shared_data / 'xquad_zh'}"],
        bench={
            "student": f"model:{home / 'small'}",
            "training_sources": [f"beir:{shared_data / 'xquad_zh'}"],
        },
    )
    assert found["xquad_zh"].documents.exact == found["xquad_zh"].documents.total > 200


def test_it_is_an_artifact_that_its_sources_make_stale(check, home, tmp_path):
    uri = write_rows(tmp_path / "more.jsonl", [{"text": "something else"}])
    data = {"sources": {"more": {"uri": uri}}}

    def status(run):
        return next(s["status"] for s in run.steps if s["name"] == "contamination")

    first, run = check(data=data)
    assert status(run) == "done"
    second, run = check(data=data)
    assert (status(run), second) == ("up to date", first)
    write_rows(tmp_path / "more.jsonl", [{"text": "something else"}, {"text": "and more"}])
    third, run = check(data=data)
    assert (status(run), third["pairs"].training_texts) == (
        "done",
        first["pairs"].training_texts + 1,
    )
    assert status(check("bench.overlap_words=5", data=data)[1]) == "done"


def test_rows_without_text_and_missing_files_are_named(check, home, tmp_path):
    uri = write_rows(tmp_path / "bad.jsonl", [{"text": "good"}, {"label": 3}])
    with pytest.raises(LeafkitError, match=r"bad\.jsonl:2: no text under any of query"):
        check(bench={"training_sources": [uri]})
    with pytest.raises(UsageError, match="no such file"):
        check(bench={"training_sources": [f"jsonl:{tmp_path / 'absent.jsonl'}"]})


def test_the_student_of_another_recipe_brings_that_recipes_sources(home, tmp_path, start):
    other = tiny.write_recipe(tmp_path / "other.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    mine = tiny.tiny_recipe(home, tmp_path / "ck")
    mine["bench"] = mine["bench"] | {"student": f"recipe:{other}"}
    listed = []
    start(
        tiny.write_recipe(tmp_path / "mine.yaml", mine),
        work=lambda run: listed.append(list_training(run, TEACHER, STUDENT)),
    )
    sources, strangers = listed[0]
    assert [(s.kind, s.recipe.name) for s in sources] == [("corpus", "other")]
    assert strangers == [f"model:{home / 'small'}", "model:big"]


def test_a_model_s_own_recipe_counts_and_not_what_became_of_it_since(home, tmp_path, start):
    """Student and stage were made with other sources than the recipe names today."""
    then = write_rows(
        tmp_path / "then.jsonl", [{"query": "a b", "positive": "c d", "split": "train"}]
    )
    today = tiny.write_recipe(
        tmp_path / "tiny.yaml",
        tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": tiny.tiny_stage(home)}},
    )
    teacher = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": tiny.tiny_stage(home)}}
    teacher = tiny.write_recipe(tmp_path / "maker.yaml", teacher)
    made = load_recipe(
        str(today), [f"data.sources.then.uri={then}", f"stages.tune.sources.then.uri={then}"]
    )
    for folder, stage in (("tiny", "student"), ("maker", "tune")):
        with publish(tmp_path / "ck" / folder / stage, stage, {}, to_plain(made)):
            pass
    listed = []
    start(
        today,
        f"teacher.source=recipe:{teacher}",
        work=lambda run: listed.append(list_training(run, TEACHER, STUDENT)[0]),
    )
    assert [(s.kind, s.config.uri) for s in listed[0]] == [
        ("corpus", made.data.corpus),
        ("texts", then),
        ("rows", then),
    ]
    assert listed[0][0].recipe == made


def test_the_student_may_be_what_another_recipe_trains_in_stages(home, tmp_path, start):
    trained = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": tiny.tiny_stage(home)}}
    del trained["teacher"]
    trained = tiny.write_recipe(tmp_path / "trained.yaml", trained)
    mine = tiny.tiny_recipe(home, tmp_path / "ck")
    mine["bench"] = mine["bench"] | {"student": f"recipe:{trained}"}
    listed = []
    start(
        tiny.write_recipe(tmp_path / "mine.yaml", mine),
        work=lambda run: listed.append(list_training(run, TEACHER, STUDENT)),
    )
    sources, _ = listed[0]
    assert [(s.kind, s.recipe.name, s.config.uri) for s in sources] == [
        ("corpus", "trained", f"jsonl:{home / 'pairs.jsonl'}")
    ]


@pytest.mark.parametrize("step", ["student", "tune", "unknown"])
def test_what_a_model_made_here_was_trained_on_is_known_by_its_folder(
    home, tmp_path, start, step
) -> None:
    """Whichever recipe names it, and wherever it was moved: its manifest says it."""
    made = tiny.tiny_recipe(home, tmp_path / "ck") | {
        "stages": {"tune": tiny.tiny_stage(home), "later": tiny.tiny_stage(home)}
    }
    made["data"] |= {"corpus": f"jsonl:{home / 'pairs.jsonl'}"}
    maker = load_recipe(str(tiny.write_recipe(tmp_path / "made.yaml", made)))
    folder = tmp_path / "elsewhere"
    with publish(folder, step, {}, to_plain(maker)) as draft:
        (draft / "weights").write_text("")
    found = []
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe["bench"] |= {"student": f"model:{folder}"}
    start(
        tiny.write_recipe(tmp_path / "tiny.yaml", recipe),
        work=lambda run: found.append(list_training(run, TEACHER, STUDENT)),
    )
    ((sources, strangers),) = found
    if step == "unknown":
        assert (sources, strangers) == ([], ["model:small", "model:big"])
    else:
        assert [s.config.uri for s in sources] == [f"jsonl:{home / 'pairs.jsonl'}"]
        assert strangers == [f"model:{home / 'small'}", "model:big"]
