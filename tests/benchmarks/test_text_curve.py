"""``benchmarks/text_curve.py``: which texts each point has, the law of a curve, and the report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import text_curve
from lib.power_law import FAR_TEXTS, fit_law

QUERIES = 40


def make_options(tmp_path: Path, **more) -> argparse.Namespace:
    options = {
        "teacher": "builtin:mpnet",
        "folder": tmp_path,
        "recipe": "own-data",
        "threads": 2,
        "words": [],
        "minutes": 10.0,
        "out_of_domain": ["beir:a", "beir:b"],
        "out": tmp_path,
        "name": "text_curve",
        "asymmetric_only": False,
    }
    return argparse.Namespace(**options | more)


def figures(shares: tuple[float, float]) -> dict:
    """Retention of asymmetric and symmetric retrieval, on two collections."""
    collections = {}
    for i, name in enumerate(("a", "b")):
        teacher = np.random.default_rng(i).beta(2, 1, QUERIES)
        ndcg = {"teacher/8/float32": teacher.tolist()}
        for system, share in zip(("asymmetric", "symmetric"), shares, strict=True):
            ndcg[f"{system}/8/float32"] = (share * teacher).tolist()
        collections[name] = {"ndcg": ndcg, "dim": 8, "cosine": 0.8, "overlap": 0.7}
    about = {"teacher": "mpnet", "start": "minilm", "precision": "bfloat16"}
    about |= {"limits": [0, 256], "collections": [[name, 100, QUERIES] for name in collections]}
    return {
        "about": about | {"texts": [], "fingerprint": "f"},
        "seconds": 600.0,
        "steps": 100,
        "was_stopped": False,
        "commit": "c0ffee",
        "collections": collections,
    }


def test_a_larger_count_keeps_what_a_smaller_one_took_and_a_mixture_has_equal_parts(tmp_path):
    for name in ("questions", "definitions"):
        rows = [{"id": str(i), "text": f"{name} {i}"} for i in range(40)]
        lines = [json.dumps(row) for row in [*rows, {"id": "again", "text": f"{name} 0"}]]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    named = [f"{name}=jsonl:{tmp_path / name}.jsonl" for name in ("questions", "definitions")]
    kinds = text_curve.read_kinds(named, is_mixed=True)
    planned = text_curve.plan(kinds, [10, 20, 60], 2, tmp_path)

    def texts(kind: str, count: int) -> list[str]:
        path = planned[text_curve.Point(kind, count, 1)]
        return [json.loads(line)["text"] for line in path.read_text().splitlines()]

    assert set(texts("questions", 10)) < set(texts("questions", 20))
    mixed = texts(text_curve.MIX, 60)
    assert sum(text.startswith("questions") for text in mixed) == 30
    # 40 different questions are no 60
    assert {(point.kind, point.count) for point in planned} == {
        *((kind, count) for kind in kinds for count in (10, 20)),
        (text_curve.MIX, 60),
    }
    assert text_curve.missing_points(kinds, [10, 60, 100]) == [
        "- no point of 60 texts of questions: it has 40",
        "- no point of 100 texts of questions: it has 40",
        "- no point of 60 texts of definitions: it has 40",
        "- no point of 100 texts of definitions: it has 40",
        "- no point of 100 texts of all kinds: each kind gives 50, and one has 40",
    ]
    words = text_curve.cell_of(
        make_options(tmp_path), text_curve.Point("questions", 10, 1), Path("t.jsonl")
    ).words
    assert "data.corpus=jsonl:t.jsonl" in words
    assert "--away-only" in words


@pytest.mark.parametrize("named", [["questions"], ["a=jsonl:x", "a=jsonl:x"]])
def test_kinds_without_a_name_of_their_own_are_refused(named, monkeypatch):
    monkeypatch.setattr(
        text_curve, "read_collection", lambda *args: argparse.Namespace(documents=[])
    )
    with pytest.raises(SystemExit, match="is not NAME=URI"):
        text_curve.read_kinds(named, is_mixed=False)


def test_the_law_is_that_of_the_points():
    counts = [1000, 10_000, 100_000]
    lost = np.array([0.4, 0.2, 0.1])  # halves with every factor of ten
    resampled = lost * np.random.default_rng(0).normal(1, 0.05, (500, 1))
    law = fit_law(counts, lost, resampled)
    assert law.exponent.value == pytest.approx(np.log10(2))
    assert law.exponent.low == pytest.approx(law.exponent.high)  # all points move together
    assert law.error == pytest.approx(0, abs=1e-12)
    assert law.far.value == pytest.approx(1 - 0.4 * (FAR_TEXTS / 1000) ** -np.log10(2))
    assert law.far.low < law.far.value < law.far.high
    estimate, low, high = law.needed[0.85]
    assert 0.4 * (estimate / 1000) ** -np.log10(2) == pytest.approx(0.15)
    assert low < estimate < high


def test_a_curve_that_does_not_rise_never_gets_there():
    flat = np.array([0.2, 0.2, 0.21])
    law = fit_law([10, 100, 1000], flat, np.tile(flat, (9, 1)))
    assert law.needed[0.97] == (np.inf, np.inf, np.inf)
    assert text_curve._texts(*law.needed[0.97]) == "never [never, never]"


def test_the_report_has_points_laws_and_a_plot(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["text_curve.py"])
    found = {}
    for count, lost in ((1000, 0.4), (10_000, 0.2), (100_000, 0.1)):
        for seed in range(2):
            point = text_curve.Point("questions", count, seed)
            found[point] = figures((1 - lost, 1 - lost / 2))
    found[text_curve.Point("definitions", 1000, 0)] = figures((0.5, 0.9))
    path = text_curve.write_report(make_options(tmp_path), text_curve.Curves(found), ["- a note"])
    told = path.read_text(encoding="utf-8")
    assert "| questions | 10,000 | 2 | 600 | 100 | 0.800 | 80.0% [80.0, 80.0] | 90.0%" in told
    assert "| definitions | 1,000 | 1 |" in told
    assert "| questions | asymmetric | 0.301 [0.301, 0.301] | 0.0 |" in told
    assert "| definitions | asymmetric" not in told  # one point is no curve
    assert told.rstrip().endswith("- a note")
    plot = (tmp_path / path.name.replace(".md", ".svg")).read_text(encoding="utf-8")
    assert plot.count("<polyline") == 4


def test_where_no_student_embeds_documents_one_way_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["text_curve.py"])
    found = {}
    for count in (1000, 10_000, 100_000):
        cell = figures((1 - 100 / count, 1.0))
        for one in cell["collections"].values():
            del one["ndcg"]["symmetric/8/float32"]
        found[text_curve.Point("questions", count, 0)] = cell
    told = text_curve.write_report(make_options(tmp_path), text_curve.Curves(found), []).read_text(
        encoding="utf-8"
    )
    assert "asymmetric kept" in told
    assert "symmetric" not in told.replace("asymmetric", "")
    options = make_options(tmp_path, asymmetric_only=True)
    words = text_curve.cell_of(options, next(iter(found)), tmp_path / "texts.jsonl").words
    assert "--asymmetric-only" in words
    assert (
        "--asymmetric-only"
        not in text_curve.cell_of(
            make_options(tmp_path), next(iter(found)), tmp_path / "texts.jsonl"
        ).words
    )
