"""``benchmarks/against.py``: the plan, budgets that a way does not need, table and plot."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import against
from lib.peers import lr_share
from lib.retention import Retention

QUERIES = 60


def make_options(tmp_path: Path, **more) -> argparse.Namespace:
    return argparse.Namespace(
        corpus="beir:data",
        teacher="builtin:mpnet",
        folder=tmp_path,
        recipe="own-data",
        threads=2,
        words=["student.optimizer.lr=5e-5"],
        minutes=[3.0, 1.0],
        turns=2,
        peer_lr=[1e-4],
        distance="cosine",
        symmetric=False,
        out=tmp_path,
        name="against",
        **more,
    )


def figures(way: str, minutes: float, share: float, is_complete: bool = False) -> dict:
    teacher = np.random.default_rng(0).beta(2, 1, QUERIES)
    return {
        "about": {
            "teacher": "mpnet",
            "start": "minilm",
            "precision": "bfloat16",
            "texts": [["home documents", 100]],
            "limits": [0, 256],
            "collections": [["home", 100, QUERIES]],
            "fingerprint": "f",
        },
        "way": way,
        "minutes": minutes,
        "seconds": 60 * minutes,
        "cpu_s": 100 * minutes,
        "texts": 500,
        "is_complete": is_complete,
        "note": "a note",
        "commit": "c0ffee",
        "ndcg": {"teacher": teacher.tolist(), "asymmetric": (share * teacher).tolist()},
    }


def point(way: str, minutes: float, share: float, is_complete: bool = False) -> against.Point:
    return against.Point(way, minutes, [figures(way, minutes, share, is_complete)])


def test_ways_alternate_and_the_user_s_words_replace_the_defaults(tmp_path):
    planned = against.plan(make_options(tmp_path), ["leafkit", "mse"])
    assert list(planned) == [1.0, 3.0]
    ours, peer = "leafkit", "mse, lr 0.0001"
    assert [way for way, _ in planned[1.0]] == [ours, peer, peer, ours]
    assert [way for way, _ in planned[3.0]] == [peer, ours, ours, peer]
    words = planned[1.0][0][1].words
    assert "student.optimizer.lr=5e-5" in words
    assert "student.optimizer.lr=2e-5" not in words
    assert "student.losses.score_kl=1" in words
    files = {cell.file_name for cells in planned.values() for _, cell in cells}
    assert len(files) == 8


def test_a_peer_that_trains_does_so_at_each_learning_rate(tmp_path):
    options = make_options(tmp_path)
    options.peer_lr = [1e-3, 1e-4]
    cells = against.plan(options, ["closed-form", "mse"])[1.0]
    words = {way: cell.words for way, cell in cells}
    assert list(words) == ["closed-form", "mse, lr 0.001", "mse, lr 0.0001"]
    assert words["mse, lr 0.001"][0] == "mse"
    assert "0.001" in words["mse, lr 0.001"]
    assert "--peer-lr" not in words["closed-form"]
    ordered = ["mse, lr 0.0001", "mse, lr 0.001", "closed-form"]
    assert against.in_order(words) == ordered
    found = [point("mse, lr 0.0001", 1.0, 0.2), point("mse, lr 0.001", 1.0, 0.7)]
    kept = Retention(found[0].values("teacher"), ["home"], 100)
    curves = {one.way: [(1.0, kept.of(one.values("asymmetric")))] for one in found}
    assert list(against.best_rates(curves)) == ["mse, lr 0.001"]
    (line,) = against.compare_times([point("leafkit", 1.0, 0.9), *found], kept, [1.0])
    assert "the best, mse, lr 0.001 (1 minutes), keeps 70.0%" in line


def test_a_way_that_used_all_its_texts_gets_no_longer_budget(tmp_path):
    planned = against.plan(make_options(tmp_path), ["closed-form", "mse"])
    found = {cell: figures(way, 1.0, 0.5, way == "closed-form") for way, cell in planned[1.0]}
    assert against.complete_ways(planned[1.0], found) == {"closed-form"}
    cells = [point("closed-form", 1.0, 0.5, True), point("mse", 1.0, 0.5)]
    assert against.at_budget(cells, "closed-form", 3.0) is cells[0]
    assert against.at_budget(cells, "mse", 3.0) is None
    assert against.at_budget(cells, "mse", 1.0) is cells[1]


def test_one_turn_of_two_that_is_complete_is_not_enough(tmp_path):
    planned = against.plan(make_options(tmp_path), ["closed-form"])
    found = {
        cell: figures("closed-form", 1.0, 0.5, turn == 0)
        for turn, (_, cell) in enumerate(planned[1.0])
    }
    assert against.complete_ways(planned[1.0], found) == set()


def test_the_table_says_by_how_much_leafkit_differs():
    found = [point("leafkit", 1.0, 0.9), point("mse", 1.0, 0.6)]
    kept = Retention(found[0].values("teacher"), ["home"], 100)
    lines = against.rows(found, kept, [1.0])
    assert [line[1] for line in lines] == ["leafkit", "mse"]
    assert lines[0][6].startswith("90.0%")
    assert lines[1][7] == "+30.0 [+30.0, +30.0] better"


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ([("mse", 1.0, 0.6), ("mse", 3.0, 0.95)], "mse keeps within 3 (95.0%)"),
        ([("mse", 1.0, 0.6)], "no peer keeps within 1: the best, mse (1 minutes), keeps 60.0%"),
    ],
)
def test_it_says_when_a_peer_comes_as_far(peer, told):
    found = [point("leafkit", 1.0, 0.9), *(point(*one) for one in peer)]
    kept = Retention(found[0].values("teacher"), ["home"], 100)
    (line,) = against.compare_times(found, kept, [1.0])
    assert told in line


def test_the_report_has_table_plot_and_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(against, "describe", lambda *names, **more: "a machine")
    monkeypatch.setattr("lib.retention.NUM_RESAMPLES", 100)
    monkeypatch.setattr(sys, "argv", ["benchmarks/against.py", "--corpus", "beir:/home/me/data"])
    found = [point("leafkit", 1.0, 0.9), point("leafkit", 3.0, 0.95), point("mse", 1.0, 0.6)]
    path = against.write_report(make_options(tmp_path), found, ["- model2vec: not installed."])
    told = path.read_text(encoding="utf-8")
    assert "beir:DIR" in told
    assert "/home/me" not in told
    assert "no text trains that is a judged query too" in told
    assert "model2vec: not installed" in told
    assert told.count("\n| ") == 5
    drawn = next(tmp_path.glob("*.svg")).read_text(encoding="utf-8")
    root = ElementTree.fromstring(drawn)
    assert len(root.findall(".//{*}polyline")) == 2
    assert len(root.findall(".//{*}polygon")) >= 1  # the band of what was measured twice
    assert "href" not in drawn


def test_the_peers_learning_rate_warms_up_and_falls_to_nothing():
    assert [round(lr_share(x), 3) for x in (0, 0.025, 0.05, 0.525, 1, 2)] == [0, 0.5, 1, 0.5, 0, 0]
