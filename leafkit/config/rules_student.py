"""Rules between the keys of the student, each in the user's words."""

from __future__ import annotations

import re

from leafkit.config.rules_stage import Problem
from leafkit.config.student import LAYERS, SCORE_TERMS, StudentConfig, read_layers
from leafkit.config.yaml_text import shown

_OF_TRANSFORMERS = ("init_layers", "attention", "pooling")
_FEWEST = 2  # candidates that have an order, or a distribution


def broken_student_rules(student: StudentConfig) -> list[Problem]:
    """Every broken rule."""
    return [*_check_layers(student), *_check_head(student), *_check_candidates(student)]


def _check_layers(student: StudentConfig) -> list[Problem]:
    choice = student.init_layers
    if student.kind == "static":
        what = "is for students that begin as a transformer; a static one takes the tokenizer alone"
        keys = [key for key in _OF_TRANSFORMERS if getattr(student, key)]
        return [(f"student.{key}", what) for key in keys]
    if choice and not all(re.fullmatch(LAYERS, part.strip()) for part in choice.split(",")):
        what = f"{choice!r} is not numbers from 1, first:N, last:N or every:N, joined by commas"
        return [("student.init_layers", what)]
    return []


def _check_head(student: StudentConfig) -> list[Problem]:
    try:
        read_layers(student.head_layers)
    except ValueError as err:
        return [("student.head_layers", f"{shown(student.head_layers)} {err}")]
    if student.kind == "static" and student.head != "linear":
        what = f"{student.head} is for students with a transformer; a static one's map is linear"
        return [("student.head", what)]
    if student.token_table and (student.kind == "static" or student.head != "linear"):
        what = "stands beside a transformer, under student.head=linear"
        return [("student.token_table", what)]
    if student.token_units and (student.kind == "static" or student.head != "linear"):
        what = "stands between a transformer and its mean, under student.head=linear"
        return [("student.token_units", what)]
    if student.token_units and student.head_layers != "last":
        what = f"reads the last layer alone, and student.head_layers={shown(student.head_layers)}"
        return [("student.token_units", what)]
    if student.head == "none" and student.trains_nothing:
        what = "none leaves nothing to fit, and an instant student is fitted alone: train it"
        return [("student.head", what)]
    if student.head == "none" and student.head_layers != "last":
        what = f"{shown(student.head_layers)}: student.head=none hands on the last layer alone"
        return [("student.head_layers", what)]
    return []


def _check_candidates(student: StudentConfig) -> list[Problem]:
    losses, asked = student.losses, student.losses.candidates
    terms = [term for term in SCORE_TERMS if getattr(losses, term)]
    if not (student.trains_on_losses and terms) or asked.num_nearest + asked.num_random >= _FEWEST:
        return []
    what = (
        f"{asked.num_random} beside num_nearest={asked.num_nearest} gives each text one document, "
        f"and {terms[0]} compares several: {_FEWEST} at least, both together"
    )
    return [("student.losses.candidates.num_random", what)]
