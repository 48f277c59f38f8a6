"""The arms of benchmarks/students.py: what each changes of a recipe, and the cells they are."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from leafkit.config.student import TERMS
from lib.case import case_words
from lib.cells import Cell

# what the arms have in common unless the words say otherwise
BASE_WORDS = (
    "data.num_made_queries=4000",
    "data.num_pseudo_texts=0",
    "student.optimizer.lr=2e-5",
)
NO_OVERRIDE = "as it is="
# not in place of score_kl: they say nothing alone of what a student is for, or need a teacher with
# Matryoshka dimensions, whose arms are given by --arm
_NOT_INSTEAD = ("l2", "cosine", "score_kl", "contrastive", "mrl_prefix", "gor")
# one change each of a recipe that trains l2 and score_kl
TECHNIQUES = {
    "closed form alone": "student.kind=instant",
    "l2 alone": "student.losses.score_kl=0",
    "cosine alone": "student.losses.l2=0,student.losses.score_kl=0,student.losses.cosine=1",
    "score_kl alone": "student.losses.l2=0",
    "score_kl last": "student.losses.begin.score_kl=0.5",
    "contrastive beside": "student.losses.contrastive=1",
    "gor beside": "student.losses.gor=1",
    "no scores of the start": "student.start_weight=0",
    "8 nearest candidates": "student.losses.candidates.num_nearest=8",
    "no random candidates": "student.losses.candidates.num_random=0",
    "documents scored too": "student.losses.candidates.texts=all",
    "temperature .02": "student.losses.candidates.temperature=0.02",
    "lr 1e-4": "student.optimizer.lr=1e-4",
    "lr 2e-5": "student.optimizer.lr=2e-5",
    "3 cycles": "student.optimizer.num_cycles=3",
    "moving average": "student.ema=0.99",
    "queries twice": "student.query_repeats=2",
    "the end is kept": "student.num_checks=0",
    "early stop": "student.patience=2",
    "no bias": "student.head_bias=false",
    "no step of the head alone": "student.head_steps=0",
    "two layers in the head": "student.head=two_layer",
    "head over all layers": "student.head_layers=all",
    "token table": "student.token_table=128",
    "layer over tokens": "student.token_units=1024",
    "closed form of all texts": "student.fit_to=all",
    "every other layer": "student.init_layers=every:2",
    "no made queries": "data.num_made_queries=0",
    "no pseudo-texts": "data.num_pseudo_texts=0",
    "static": "student.kind=static",
    "static, whole words": "student.kind=static,student.static.num_words=20000",
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A name and what it changes of the recipe."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arm:
    """A loss, a kind and a mixture: one line of the tables."""

    loss: Variant
    kind: Variant
    mixture: Variant

    @property
    def name(self) -> str:
        """The parts that say something."""
        parts = [self.loss.name, self.kind.name, self.mixture.name]
        quiet = NO_OVERRIDE.partition("=")[0]
        return ", ".join(part for part in parts if part != quiet) or quiet


def default_arms() -> list[str]:
    """The squared L2 distance, the closed form alone, each other term beside it, and scores
    alone, last and at another rate.
    """
    beside = [f"l2 + {term}=student.losses.{term}=1" for term in TERMS if term != "l2"]
    return [
        "l2=",
        "closed form alone=student.kind=instant",
        *beside,
        "score_kl alone=student.losses.l2=0,student.losses.score_kl=1",
        "score_kl last=student.losses.score_kl=1,student.losses.begin.score_kl=0.5",
        "l2, lr 1e-4=student.optimizer.lr=1e-4",
    ]


def technique_arms() -> list[str]:
    """A recipe that trains l2 and score_kl, and one change of it at a time: another loss, kind of
    head or student, schedule, or text.
    """
    instead = [
        f"{term} instead of score_kl=student.losses.score_kl=0,student.losses.{term}=1"
        for term in TERMS
        if term not in _NOT_INSTEAD
    ]
    return ["as it ships=", *instead, *(f"{name}={words}" for name, words in TECHNIQUES.items())]


def parse_variant(text: str) -> Variant:
    """``name=key=value,key=value``; commas within brackets separate nothing.

    >>> parse_variant("kl=student.losses.score_kl=1,teacher.mrl_dims=[256,128]").words
    ('student.losses.score_kl=1', 'teacher.mrl_dims=[256,128]')

    Raises:
        SystemExit: no name, or an override without a value.
    """
    name, separator, rest = text.partition("=")
    words = tuple(word for word in re.split(r",(?![^\[{]*[\]}])", rest) if word)
    wrong = [word for word in words if "=" not in word]
    if not name or not separator or wrong:
        sys.exit(f"{text!r} is not name=key=value,key=value")
    return Variant(name.strip(), words)


def plan_arms(options: argparse.Namespace) -> list[Arm]:
    """All arms as all kinds on all mixtures; the first is the reference.

    Raises:
        SystemExit: two variants have one name.
    """
    parts = []
    for flag, texts in (("arm", options.arm), ("kind", options.kind), ("mixture", options.mixture)):
        variants = [parse_variant(text) for text in texts]
        names = [variant.name for variant in variants]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            sys.exit(f"--{flag}: the name {min(twice)!r} comes more than once")
        parts.append(variants)
    losses, kinds, mixtures = parts
    return [Arm(loss, kind, mixture) for mixture in mixtures for kind in kinds for loss in losses]


def arm_words(options: argparse.Namespace, arm: Arm) -> list[str]:
    """Words of the recipe of an arm; its own count before the benchmark's."""
    own = [*arm.mixture.words, *arm.kind.words, *arm.loss.words]
    return [*case_words(options, () if options.techniques else BASE_WORDS), *own]


def plan_cells(options: argparse.Namespace, arms: Sequence[Arm]) -> dict[Cell, Arm]:
    """Every arm with every seed; seed by seed, so that a run that is broken off has all arms, and
    every other time backwards.
    """
    planned: dict[Cell, Arm] = {}
    for seed in range(options.seeds):
        for arm in arms[::-1] if seed % 2 else arms:
            words = ["--minutes", f"{options.minutes:g}", "--recipe", options.recipe]
            words += ["--seed", str(seed), "--threads", str(options.threads)]
            words += ["--asymmetric-only"] if options.asymmetric_only else []
            words += ["--no-hnsw"] if options.no_hnsw else []
            words += ["--dims", *map(str, options.dims)] if options.dims else []
            words += ["--out-of-domain", *options.out_of_domain] if options.out_of_domain else []
            words += ["--words", *arm_words(options, arm)]
            planned[Cell(f"{arm.name}-{options.minutes:g}min-{seed}", tuple(words))] = arm
    return planned
