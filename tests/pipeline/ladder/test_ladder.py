"""``leafkit ladder`` on a finished tiny recipe: rungs, figures, and what it refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from ladder_case import climb, finish, with_ladder, write_recipe

from leafkit.cli import main
from leafkit.config.load import load_recipe
from leafkit.core.artifact import read_manifest
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.evaluation.per_query import read_per_query
from leafkit.evaluation.routing.predict import predict_losses
from leafkit.evaluation.routing.signals import read_signals
from leafkit.models.encoder_protocol import read_model
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets
from leafkit.pipeline.ladder import build, rungs
from leafkit.pipeline.ladder.router import open_router
from leafkit.pipeline.ladder.visits import visit
from leafkit.pipeline.load_pair import load_pair
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import open_run
from leafkit.results import Interval, Ladder, TimedOn
from leafkit.results.agreement import HELD_OUT, SEEN
from leafkit.results.ladder import JUDGED, REFUTED, TEACHERS_OWN, VERIFIED


@pytest.fixture(scope="module")
def asked(tmp_path_factory) -> tuple[Path, Path, Ladder]:
    """Recipe, folder and ladder where documents are asked, for there is no query."""
    root = tmp_path_factory.mktemp("asked")
    recipe = write_recipe(root, num_test=0)
    return recipe, finish(recipe), climb(recipe)


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> tuple[Path, Path, Ladder]:
    root = tmp_path_factory.mktemp("judged")
    recipe = write_recipe(root, num_test=40)
    return recipe, finish(recipe), climb(recipe)


def test_rungs_are_student_folders_of_one_space(asked):
    _, folder, ladder = asked
    pair = load_pair(folder)
    assert [rung.name for rung in ladder.rungs] == ["table", "1l", "student", "teacher"]
    for rung in ladder.rungs[:2]:
        model = read_model(folder / "ladder" / rung.name)
        assert (model.fingerprint, model.dim) == (rung.fingerprint, pair.dim)
        assert model.num_parameters() == rung.parameters
    assert ladder.rung("student").fingerprint == pair.student.fingerprint
    layers = read_model(folder / "ladder" / "1l").backbone.config.num_hidden_layers
    assert layers == 1


def test_no_rung_is_fitted_to_what_the_router_learns_from(asked):
    _, folder, ladder = asked
    student, table = (read_manifest(folder / part) for part in ("student", "ladder/table"))
    assert ladder.num_learning >= 200
    num_texts = [sum(found.inputs["texts"]) for found in (student, table)]
    assert num_texts[0] - num_texts[1] == ladder.num_learning


def test_without_judgments_the_teachers_own_documents_are_relevant(asked):
    _, _, ladder = asked
    assert ladder.relevance == TEACHERS_OWN
    assert (ladder.asked_with, ladder.training) == ("documents as queries", SEEN)
    assert ladder.rungs[-1].ndcg.value == pytest.approx(1.0)
    assert TEACHERS_OWN in str(ladder)
    assert SEEN in str(ladder)
    assert 0.2 < ladder.rung("table").kept.value < 1


def test_queries_are_timed_as_they_are_served(asked):
    """Documents that are asked as queries are no queries: those that are learned from are timed."""
    _, _, ladder = asked
    assert (ladder.num_timed, ladder.timed_with) == (3, ladder.learned_from)
    threads = torch.get_num_threads()
    assert [rung.timed_on for rung in ladder.rungs] == [
        TimedOn("cpu", "float32", 1),
        *[TimedOn("cpu", "float32", threads)] * 3,
    ]


@pytest.mark.slow
def test_half_of_the_judged_queries_calibrate(judged):
    _, folder, ladder = judged
    assert (ladder.relevance, ladder.num_calibration, ladder.num_verification) == (JUDGED, 20, 20)
    assert ladder.training == HELD_OUT
    assert ladder.timed_with == ladder.asked_with == "judged test queries"
    (values,) = read_per_query(folder / "ladder" / "router" / "per_query.parquet")
    assert len(values.query_ids) == 40
    assert set(values.values) == {"table", "1l", "student", "teacher"}
    page = (folder / "ladder" / "router" / "ladder.html").read_text()
    assert "<svg" in page
    assert "<script" not in page


@pytest.mark.slow
def test_a_promise_that_cannot_be_had_is_the_teachers(judged):
    last = judged[2].promises[-1]
    assert not last.is_held
    assert last.kept.value == last.cost.value == 1.0
    assert last.shares["teacher"] == 1.0
    assert last.num_needed > 40
    assert f"below {last.num_needed:,} queries" in str(judged[2])


def test_a_promise_is_kept_for_less_than_the_teachers_time(asked):
    first = asked[2].promises[0]
    assert first.is_held
    assert first.bound >= first.promise
    assert first.cost.value < 1
    assert sum(first.shares.values()) == pytest.approx(1.0)


def test_a_second_run_finds_all_of_it(asked, monkeypatch):
    recipe, _, ladder = asked
    monkeypatch.setattr(build, "measure_rungs", None)
    monkeypatch.setattr(rungs, "fit_table", None)
    with open_run(load_recipe(str(recipe), ())) as run:
        # what a step is made by is asked of the functions, which are gone
        monkeypatch.setattr(build, "method_of", lambda *_: _method(run, "router"))
        monkeypatch.setattr(
            rungs, "method_of", lambda make, *_: _method(run, "table" if make is None else "1l")
        )
        assert build.run_ladder(run) == ladder


def _method(run, part: str) -> str:
    return read_manifest(run.folder / "ladder" / part).method


def test_the_router_decides_as_it_was_calibrated(asked):
    """What is served, query by query, is what was measured for all together."""
    _, folder, ladder = asked
    pair = load_pair(folder)
    router = open_router(folder, pair, 0.05, is_unverified=True)
    assert router.route == ladder.route
    assert set(router.models) == set(ladder.route[:-1])
    texts = [document.full_text for document in pair.documents[:20]]
    first, limit = router.route[0], ladder.max_query_tokens
    assert limit == 32
    vectors = router.models[first].embed(texts, "query", limit)
    together, _ = visit(pair, router.models[first], texts, vectors, max_tokens=limit)
    told = predict_losses(router.predictors[first], read_signals(texts, together, None))
    enough = router.are_enough(first, texts, together, None)
    assert enough.tolist() == (told <= router.promise.threshold).tolist()
    for row, text in enumerate(texts):
        vector = router.models[first].embed_one(text, "query", limit)[None]
        alone, _ = visit(pair, router.models[first], [text], vector, max_tokens=limit)
        assert router.are_enough(first, [text], alone, None).tolist() == [enough[row]]
    assert router.are_enough("teacher", texts, together, None).all()


# --- what is refused


@pytest.fixture(scope="module")
def unseen(asked, tmp_path_factory) -> Path:
    """The folder as if its queries had trained nothing, and half a promise had been refuted."""

    def change(ladder: Ladder) -> Ladder:
        first, second, *others = ladder.promises
        assert second.promise == 0.5
        verified = replace(first, kept=Interval(0.3, 0.2, 0.4, 80))
        refuted = replace(second, threshold=1.0, bound=0.6, kept=Interval(0.4, 0.3, 0.45, 80))
        return replace(ladder, training=HELD_OUT, promises=(verified, refuted, *others))

    return with_ladder(asked[1], tmp_path_factory.mktemp("unseen") / "tiny", change)


@pytest.mark.parametrize(
    ("promise", "says"),
    [
        (0.97, "was not calibrated: 0.05, 0.5, 0.9999 were"),
        (0.9999, "is held by the teacher alone"),
        (0.5, r"is refuted: of 80 queries that calibrated nothing 40.0% \[30.0, 45.0\] is kept"),
    ],
)
def test_a_promise_that_is_not_held_names_those_that_are(unseen, promise, says):
    with pytest.raises(UsageError, match=says) as refused:
        open_router(unseen, load_pair(unseen), promise)
    assert "highest that was verified is promise=0.05;" in refused.value.hint
    assert "not refuted are promise=0.05 at" in refused.value.hint
    assert "promise=0.5 at" not in refused.value.hint
    assert "of the teacher's query time" in refused.value.hint


def test_a_verified_promise_needs_no_word_and_a_refuted_one_does(unseen):
    pair = load_pair(unseen)
    assert open_router(unseen, pair, 0.05).verification == VERIFIED
    assert open_router(unseen, pair, 0.5, is_unverified=True).verification == REFUTED
    with pytest.raises(UsageError, match="teacher alone"):
        open_router(unseen, pair, 0.9999, is_unverified=True)


def test_a_promise_of_what_the_student_has_seen_is_refused(asked):
    pair = load_pair(asked[1])
    with pytest.raises(UsageError, match="documents as queries that the student has seen") as one:
        open_router(asked[1], pair, 0.05)
    assert "unverified=true" in one.value.hint
    assert open_router(asked[1], pair, 0.05, is_unverified=True).verification == SEEN
    with pytest.raises(UsageError, match="was not calibrated") as other:
        open_router(asked[1], pair, 0.97)
    assert "no promise is held on queries that the student has not seen" in other.value.hint


def test_a_ladder_of_an_earlier_student_is_refused(asked, tmp_path):
    recipe, folder, _ = asked
    shutil.copytree(folder.parent, tmp_path / "ck")
    words = (f"checkpoints={tmp_path / 'ck'}", "student.head_bias=false")
    again = finish(recipe, *words)
    with pytest.raises(LeafkitError, match="an earlier student") as refused:
        open_router(again, load_pair(again), 0.05, is_unverified=True)
    assert "leafkit ladder" in refused.value.hint


def test_a_rung_that_was_exchanged_is_refused(asked, tmp_path):
    _, folder, ladder = asked
    shutil.copytree(folder, tmp_path / "tiny")
    name = ladder.route[0]
    other = "1l" if name == "table" else "table"
    shutil.rmtree(tmp_path / "tiny" / "ladder" / name)
    shutil.copytree(folder / "ladder" / other, tmp_path / "tiny" / "ladder" / name)
    with pytest.raises(LeafkitError, match=r"artifact where|another model"):
        open_router(tmp_path / "tiny", load_pair(tmp_path / "tiny"), 0.05, is_unverified=True)


def test_a_ladder_on_a_graph_is_served_on_that_graph(asked, tmp_path):
    """The index is built by the run, which holds the folder that it is kept in."""
    recipe, folder, _ = asked
    shutil.copytree(folder.parent, tmp_path / "ck")
    words = (f"checkpoints={tmp_path / 'ck'}", "ladder.index=hnsw")
    ladder = climb(recipe, *words)
    assert (ladder.index, ladder.setting) == ("hnsw", "HNSW32, ef_search=256")
    place = tmp_path / "ck" / folder.name
    pair = load_pair(place, index="hnsw")
    router = open_router(place, pair, 0.05, is_unverified=True)
    assert router.ladder == ladder
    with pytest.raises(UsageError, match="calibrated on index=hnsw, and index=flat"):
        open_router(place, load_pair(place), 0.05, is_unverified=True)
    assert pair.index is not None
    plan = pair.index.plan
    for other in (replace(plan, settings=(16, 64)), replace(plan, factory="HNSW8")):
        pair._index = replace(pair.index, plan=other)
        with pytest.raises(LeafkitError, match="HNSW32, ef_search=256, and HNSW") as refused:
            open_router(place, pair, 0.05, is_unverified=True)
        assert "leafkit ladder" in refused.value.hint


def test_a_folder_without_a_ladder(asked, tmp_path):
    shutil.copytree(asked[1], tmp_path / "tiny", ignore=shutil.ignore_patterns("ladder"))
    with pytest.raises(UsageError, match="has no ladder") as refused:
        open_router(tmp_path / "tiny", load_pair(tmp_path / "tiny"), 0.05)
    assert "leafkit ladder" in refused.value.hint


def test_an_unfinished_recipe(tmp_path):
    recipe = write_recipe(tmp_path, num_test=40)
    with pytest.raises(LeafkitError, match="has no student") as refused:
        climb(recipe)
    assert "leafkit distill" in refused.value.hint


@pytest.mark.slow
def test_train_queries_calibrate_nothing(judged):
    with pytest.raises(UsageError, match="these queries train the student"):
        climb(judged[0], "bench.split=train")


@pytest.mark.slow
def test_too_few_queries_are_refused_with_how_many_would_do(judged):
    words = ("bench.split=validation", "ladder.promises=[0.95]")
    with pytest.raises(LeafkitError, match="has 4 judged validation queries") as refused:
        climb(judged[0], *words)
    assert "takes 120 at least" in refused.value.hint


def test_a_rung_that_is_no_cheaper_than_the_student(asked):
    with pytest.raises(UsageError, match="2l is no rung below a student of 2 layers"):
        climb(asked[0], "ladder.rungs=[2l]")


def test_documents_that_are_not_the_indexs(asked, tmp_path):
    other = tiny.write_documents(tmp_path / "other.jsonl", 90)
    with pytest.raises(LeafkitError, match="holds other documents"):
        climb(asked[0], f"data.corpus=jsonl:{other}")


def test_as_many_texts_of_another_seed_are_not_what_the_student_learned_from(asked):
    recipe, folder, _ = asked
    with open_run(load_recipe(str(recipe), ("seed=7",))) as run:
        teacher, corpus = load_teacher(run), load_corpus(run, run.recipe.data.corpus)
        targets = load_targets(run, teacher, corpus)
    told = read_manifest(folder / "student").inputs
    assert [len(target.texts) for target in targets] == told["texts"]
    with pytest.raises(UsageError, match="learned from other texts") as refused:
        climb(recipe, "seed=7")
    assert "the words that finished the recipe, seed" in refused.value.hint


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("ladder.promises=[1.0]", "1.0 is above 0.9999"),
        ("ladder.promises=[0.0]", "above 0"),
        ("ladder.promises=[0.9,0.8]", "rising"),
        ("ladder.rungs=[6l]", "one of table"),
        ("student.num_epochs=2", "no effect in leafkit ladder"),
    ],
)
def test_the_command_refuses_what_is_no_ladder(asked, word, says, capsys):
    assert main.main(["ladder", f"recipe={asked[0]}", word]) == 2
    assert says in " ".join("".join(capsys.readouterr()).split())
