"""Which keys each kind of student reads, and what is said of the others; terms in their turn."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, is_dataclass

import pytest
import tiny
import torch
from small_student import distill, weights

import leafkit
from leafkit.config import Recipe, StudentConfig, StudentLosses
from leafkit.config.effects import find_missing
from leafkit.config.reference import list_keys
from leafkit.config.student import STUDENT_KINDS

# read on the way to nothing: defaults of what the recipe does not decide, terms without a weight
READ_IN_VAIN = {
    "transformer": {"student.losses.candidates.margin"},
    "instant": {
        "student.losses.candidates.num_nearest",
        "student.losses.candidates.texts",
        "student.minutes",
        "student.query_repeats",
    },
    "static": {"student.minutes", "student.optimizer.lr"},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def config_of(kind: str, **changes) -> StudentConfig:
    static = leafkit.config.StaticConfig(width=16, document_epochs=0.5, query_epochs=0.5)
    settings = {"num_epochs": 0.3, "num_ridge_texts": 64, "static": static}
    return StudentConfig(kind=kind, **settings | changes)


@pytest.mark.parametrize("kind", STUDENT_KINDS)
def test_what_counts_for_a_kind_is_what_it_reads(kind, home, monkeypatch):
    """The table of conditions against the code: a key that nothing reads may not pass for one that
    counts.
    """
    config = config_of(kind, losses=StudentLosses(score_kl=1.0))
    prefixes: dict[type, str] = {}
    read: set[str] = set()

    def place(section: object, prefix: str) -> None:
        prefixes[type(section)] = prefix
        for declared in fields(section):
            if is_dataclass(value := getattr(section, declared.name)):
                place(value, f"{prefix}{declared.name}.")

    def get(section: object, name: str) -> object:
        # tables of all keys read everything, and decide about nothing
        reader = sys._getframe(1).f_globals["__name__"]
        is_table = reader.startswith("leafkit.config") or reader == "dataclasses"
        if not is_table or name in ("kind", "minutes"):
            read.add(prefixes[type(section)] + name)
        return object.__getattribute__(section, name)

    place(config, "student.")
    for section in prefixes:
        monkeypatch.setattr(section, "__getattribute__", get)
    distill(home, config)
    monkeypatch.undo()
    recipe = Recipe(student=config)
    counting = {
        key.name
        for key in list_keys(config, "student.")
        if not find_missing("distill", recipe, key.name)
    }
    assert counting <= read
    keys = {key.name for key in list_keys(config, "student.")}
    assert (read & keys) - counting <= READ_IN_VAIN[kind]


def test_settings_without_a_use_are_told_in_one_line(home, caplog):
    with caplog.at_level("INFO", logger="leafkit"):
        distill(home, config_of("instant", head_steps=0, losses=StudentLosses(score_kl=1.0)))
    told = [line for line in caplog.messages if "has no use for" in line]
    assert len(told) == 1
    for setting in ("num_epochs=0.3", "static.width=16", "losses.score_kl=1.0", "head_steps=0"):
        assert (f"student.{setting}" in told[0]) == (setting != "head_steps=0")


def test_a_term_that_ends_hands_over_to_another(home, caplog):
    both = StudentLosses(score_kl=5.0)
    handed = StudentLosses(score_kl=5.0, begin={"score_kl": 0.5}, end={"l2": 0.5})
    with caplog.at_level("INFO", logger="leafkit"):
        moved = weights(distill(home, config_of("transformer", losses=handed, num_checks=0)))
    assert re.search(
        r"student\.losses, of (\d+) steps: l2 in steps 1 to (\d+), score_kl in steps \d+ to \1",
        caplog.text,
    )
    assert not torch.equal(
        moved, weights(distill(home, config_of("transformer", losses=both, num_checks=0)))
    )
    # scores alone train queries, and a student that was trained on them alone is another one
    alone = StudentLosses(l2=0.0, score_kl=5.0)
    assert not torch.equal(
        moved, weights(distill(home, config_of("transformer", losses=alone, num_checks=0)))
    )
