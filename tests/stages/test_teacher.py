"""The space guard: a student is compared only with the teacher, prompts and dimension it was distilled for."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from leafkit.errors import LeafkitError
from leafkit.models.checkpoint import write_encoder
from leafkit.stages.teacher import check_student

PROMPTS = {"query": tiny.PROMPT}


@pytest.fixture
def student(tmp_path: Path):
    encoder = tiny.make_encoder(dim=48, prompts=PROMPTS)
    write_encoder(encoder, tmp_path / "student", {"kind": "student", "teacher": "abc", "dim": 48, "prompts": PROMPTS})
    return encoder


def test_a_student_of_this_teacher_passes(student, tmp_path):
    check_student(tmp_path / "student", student, "abc", 48)


def test_another_teachers_student_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match="space of teacher abc, not of teacher def"):
        check_student(tmp_path / "student", student, "def", 48)


def test_a_missing_prompt_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match=r"its prompts are \{\} and were"):
        check_student(tmp_path / "student", tiny.with_spec(student, prompts={}), "abc", 48)


def test_another_dimension_is_refused(student, tmp_path):
    with pytest.raises(LeafkitError, match="48 dimensions and the teacher's 64"):
        check_student(tmp_path / "student", student, "abc", 64)


def test_a_foreign_student_is_checked_by_its_dimension(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    check_student(foreign, tiny.make_encoder(dim=48), "abc", 48)
    with pytest.raises(LeafkitError, match="share no space"):
        check_student(foreign, tiny.make_encoder(dim=32), "abc", 48)
