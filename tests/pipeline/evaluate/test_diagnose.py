"""``diagnose`` from a recipe: with judged queries, on documents alone, up to date, and with
mistakes.
"""

from __future__ import annotations

import pytest
import tiny

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.pipeline.evaluate.diagnose import run_diagnose
from leafkit.results import Diagnosis


@pytest.fixture
def examine(home, tmp_path, start):
    def run(*overrides, **changes):
        recipe = tiny.tiny_recipe(home, tmp_path / "ck")
        for key, value in changes.items():
            recipe[key] = recipe.get(key, {}) | value
        found = []
        done = start(
            tiny.write_recipe(tmp_path / "tiny.yaml", recipe),
            *overrides,
            work=lambda r: found.append(run_diagnose(r)),
        )
        return found[0], done

    return run


def test_a_diagnosis_is_kept_and_found_up_to_date(examine, tmp_path):
    found, first = examine()
    figures = found.figures
    assert (found.teacher, found.collection) == ("big", "pairs")
    assert (figures.dim, figures.student_width, figures.num_queries) == (48, 32, 12)
    assert figures.claimed_dims == (48, 24)
    assert [row.rank for row in figures.spectrum] == [32, 48]
    assert [row.dim for row in figures.dims] == [48, 24]
    assert found.verdict in {"can be inherited", "with losses", "cannot be inherited"}
    written = tmp_path / "ck" / "tiny" / "diagnosis" / "diagnosis.json"
    assert Diagnosis.load(written) == found
    again, second = examine()
    assert again == found
    assert [
        s["status"] for run in (first, second) for s in run.steps if s["name"] == "diagnosis"
    ] == ["done", "up to date"]


def test_a_static_student_is_as_wide_as_its_table(examine):
    """Its init gives the tokenizer alone."""
    found, _ = examine(student={"kind": "static", "static": {"width": 8}})
    assert found.figures.student_width == 8
    assert [row.rank for row in found.figures.spectrum] == [8, 48]
    wider, _ = examine(student={"kind": "static", "static": {"width": 24}})
    assert wider.figures.student_width == 24


@pytest.mark.parametrize(
    "override",
    [
        "seed=7",
        "inherit.ranks=[5]",
        "inherit.dims=[12]",
        "bench.num_resamples=50",
        "bench.split=train",
    ],
)
def test_what_decides_about_it_makes_it_anew(examine, override):
    examine()
    _, run = examine(override)
    assert next(s["status"] for s in run.steps if s["name"] == "diagnosis") == "done"


def test_documents_without_any_query_do(examine, tmp_path):
    tiny.write_documents(tmp_path / "docs.jsonl")
    found, _ = examine(data={"corpus": f"jsonl:{tmp_path / 'docs.jsonl'}"})
    assert (found.figures.num_queries, found.figures.num_texts) == (0, 60)
    assert found.figures.binary.quality is None
    assert "no judged query" in found.findings[0]


def test_one_document_is_refused(examine, tmp_path):
    tiny.write_documents(tmp_path / "docs.jsonl", 1)
    with pytest.raises(LeafkitError, match="1 text"):
        examine(data={"corpus": f"jsonl:{tmp_path / 'docs.jsonl'}"})


def test_a_rank_that_the_teacher_has_not_is_refused(examine):
    with pytest.raises(UsageError, match=r"inherit\.ranks: 100"):
        examine("inherit.ranks=[16,100]")
