"""``benchmarks/students.py``: the plan of the grid, and the report from cells."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import students
from lib import student_arms
from lib.cells import FAILED

from leafkit.config.load import load_recipe
from leafkit.config.student import TERMS

QUERIES = 50


def make_options(tmp_path: Path, **more) -> argparse.Namespace:
    options = {
        "corpus": "beir:data",
        "teacher": "builtin:mpnet",
        "folder": tmp_path,
        "recipe": "own-data",
        "techniques": False,
        "threads": 2,
        "words": [],
        "minutes": 10.0,
        "seeds": 2,
        "arm": ["l2=", "kl=student.losses.score_kl=1"],
        "kind": [student_arms.NO_OVERRIDE],
        "mixture": [student_arms.NO_OVERRIDE],
        "out_of_domain": [],
        "dims": [],
        "asymmetric_only": False,
        "no_hnsw": False,
        "out": tmp_path,
        "name": "students",
    }
    return argparse.Namespace(**options | more)


def figures(shares: dict[str, float], seconds: float = 600.0, **more) -> dict:
    collections = {}
    for i, (name, share) in enumerate(shares.items()):
        teacher = np.random.default_rng(i).beta(2, 1, QUERIES)
        ndcg = {}
        for setting, factor in (("8/float32", 1.0), ("8/binary", 0.8), ("4/float32", 0.9)):
            ndcg[f"teacher/{setting}"] = (factor * teacher).tolist()
            ndcg[f"asymmetric/{setting}"] = (factor * share * teacher).tolist()
        collections[name] = {"ndcg": ndcg, "dim": 8, "cosine": 0.8, "overlap": 0.7}
    return {
        "about": {
            "teacher": "mpnet",
            "start": "minilm",
            "precision": "bfloat16",
            "texts": [["home documents", 100]],
            "limits": [0, 256],
            "collections": [[name, 100, QUERIES] for name in shares],
            "fingerprint": "f",
        },
        "seconds": seconds,
        "cpu_s": seconds,
        "steps": 100,
        "kept_after": 100,
        "was_stopped": False,
        "parameters": 10,
        "commit": "c0ffee",
        "collections": collections,
        "hnsw": {"teacher": {"16": 0.96, "32": 0.99}, "student": {"16": 0.9, "32": 0.94}},
    } | more


def test_every_term_of_the_losses_is_an_arm_and_its_words_load():
    arms = [student_arms.parse_variant(text) for text in student_arms.default_arms()]
    words = [word for arm in arms for word in arm.words]
    for term in TERMS:
        assert term == "l2" or f"student.losses.{term}=1" in words
    assert arms[0].words == ()  # the reference
    for arm in arms:
        load_recipe("own-data", [*arm.words])


def test_a_technique_is_one_change_of_the_recipe_and_its_words_load(tmp_path):
    arms = [student_arms.parse_variant(text) for text in student_arms.technique_arms()]
    shipped = load_recipe("mpnet-to-23m", [])
    assert arms[0].words == ()
    found = {arm.name: load_recipe("mpnet-to-23m", [*arm.words]) for arm in arms[1:]}
    assert all(recipe != shipped for recipe in found.values())
    # a teacher without Matryoshka dimensions is refused it
    for term in set(TERMS) - {"mrl_prefix"}:
        assert any(getattr(recipe.student.losses, term) for recipe in found.values())
    scored = found["ranking instead of score_kl"].student.losses
    assert (scored.l2, scored.score_kl, scored.ranking) == (1, 0, 1)


def test_techniques_take_nothing_but_the_recipe(tmp_path):
    options = make_options(tmp_path, techniques=True, arm=["as it ships="])
    words = student_arms.arm_words(options, student_arms.plan_arms(options)[0])
    assert [word.partition("=")[0] for word in words] == [
        "data.corpus",
        "teacher.source",
        "checkpoints",
    ]


def test_commas_in_brackets_separate_nothing():
    found = student_arms.parse_variant("mix=data.a=[1,2],data.b=x,data.c={k: 1, m: 2}")
    assert found.name == "mix"
    assert found.words == ("data.a=[1,2]", "data.b=x", "data.c={k: 1, m: 2}")


@pytest.mark.parametrize("text", ["no overrides", "=student.kind=instant", "name=student.kind"])
def test_what_is_no_variant_is_refused(text):
    with pytest.raises(SystemExit, match="is not name="):
        student_arms.parse_variant(text)


def test_the_grid_is_a_product_and_goes_seed_by_seed(tmp_path):
    options = make_options(tmp_path, kind=["6l=", "3l=student.init=model:3l"])
    arms = student_arms.plan_arms(options)
    assert [arm.name for arm in arms] == ["l2, 6l", "kl, 6l", "l2, 3l", "kl, 3l"]
    planned = student_arms.plan_cells(options, arms)
    assert list(planned.values()) == [*arms, *arms[::-1]]
    assert len({cell.file_name for cell in planned}) == 8
    last = list(planned)[-1].words
    assert last[-1] == "data.num_pseudo_texts=0" or "student.optimizer.lr=2e-5" in last


def test_a_name_that_comes_twice_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="'l2' comes more than once"):
        student_arms.plan_arms(make_options(tmp_path, arm=["l2=", "l2=student.losses.l2=2"]))


def test_an_arm_s_words_come_last_and_replace_the_benchmark_s(tmp_path):
    options = make_options(tmp_path, arm=["fast=student.optimizer.lr=1e-4"])
    words = student_arms.arm_words(options, student_arms.plan_arms(options)[0])
    assert words.index("student.optimizer.lr=1e-4") > words.index("student.optimizer.lr=2e-5")
    from lib.case import read_case_recipe

    assert read_case_recipe("own-data", words).student.optimizer.lr == 1e-4


def test_an_arm_with_a_wrong_key_is_refused_before_any_work(tmp_path):
    options = make_options(tmp_path, arm=["l2=", "kl=student.losses.score_kll=1"])
    with pytest.raises(SystemExit, match="score_kl"):
        students.prepare(options, student_arms.plan_arms(options))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def report(tmp_path, monkeypatch):
    """The text of a report on two arms with two seeds, one of which failed."""

    def make(gain: float) -> str:
        monkeypatch.setattr(students, "describe", lambda *names, **more: "a machine")
        monkeypatch.setattr("lib.retention.NUM_RESAMPLES", 100)
        monkeypatch.setattr(sys, "argv", ["benchmarks/students.py", "--minutes", "10"])
        options = make_options(tmp_path, out_of_domain=["beir:away"])
        planned = student_arms.plan_cells(options, student_arms.plan_arms(options))
        cells = {}
        for cell, arm in planned.items():
            share = 0.8 + (gain if arm.loss.name == "kl" else 0.0)
            cells[cell] = figures({"home": share, "away": 0.5})
        cells[list(planned)[-1]] = {FAILED: "it broke"}
        found = students.Found(planned, cells)
        path = students.write_report(options, found, ["- l2-10min-1 failed: it broke"])
        return path.read_text(encoding="utf-8")

    return make


def test_the_report_says_by_how_much_an_arm_differs(report):
    told = report(0.1)
    assert "| kl | 2 | 600 | 100 | 90.0% [90.0, 90.0] | +10.0 [+10.0, +10.0] better |" in told
    assert "| l2 | 1 | 600 | 100 | 80.0% [80.0, 80.0] | reference |" in told
    assert "## Out-of-domain, mean" in told
    assert "In-domain:\n\n- nothing" in told
    assert "- kl: +0.0 [+0.0, +0.0] points, no difference" in told  # out-of-domain
    assert "failed: it broke" in told


def test_the_report_says_what_brought_nothing(report):
    assert "In-domain:\n\n- kl: -10.0 [-10.0, -10.0] points, worse" in report(-0.1)


def test_shortened_and_quantized_and_hnsw(report):
    told = report(0.0)
    assert "|  | 8/float32 | 8/binary | 4/float32 |" in told
    assert "| teacher | 100.0% [100.0, 100.0] | 80.0% [80.0, 80.0] | 90.0% [90.0, 90.0] |" in told
    assert "| l2, asymmetric | 80.0% [80.0, 80.0] | 64.0% [64.0, 64.0] |" in told
    assert "| l2 | 16 | more than 32 |" in told


def test_each_of_several_mixtures_is_described(tmp_path):
    options = make_options(tmp_path, arm=["l2="], mixture=["few=data.num_made_queries=1", "many="])
    planned = student_arms.plan_cells(options, student_arms.plan_arms(options))
    cells = {cell: figures({"home": 0.8}) for cell in planned}
    for cell, arm in planned.items():
        cells[cell]["about"]["texts"] = [["queries", 1 if arm.mixture.name == "few" else 4000]]
    told = students.describe_mixtures(students.Found(planned, cells))
    assert told == ["Texts of each mixture:", "", "- few: 1 queries", "- many: 4,000 queries", ""]


def test_a_setting_that_some_cell_lacks_is_left_out(tmp_path):
    planned = student_arms.plan_cells(make_options(tmp_path), [])
    assert planned == {}
    assert students.Found({}, {}).arms == []
