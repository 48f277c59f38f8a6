"""A finished tiny recipe and its ladder, without the benchmark, and with times that are the same on
every machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.core.artifact import read_manifest, seal
from leafkit.core.checkpoint_layout import LADDER, LADDER_FILE, ROUTER_FOLDER
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets, save_student
from leafkit.pipeline.document_index import write_index
from leafkit.pipeline.ladder import build
from leafkit.pipeline.ladder.measure import Times
from leafkit.pipeline.ladder.timing import time_rungs
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import open_run
from leafkit.results import Ladder, TimedOn

COSTS = {"table": 1.0, "1l": 2.0, "student": 4.0, "teacher": 40.0}  # milliseconds


def write_recipe(root: Path, *, num_test: int, **ladder: object) -> Path:
    """A recipe of tiny models; without test queries documents are asked, which have three sentences
    each.
    """
    if num_test:
        source = tiny.write_pairs(root / "pairs.jsonl", 240, num_test)
    else:
        sentences = [document for _, document in tiny.make_pairs(480)]
        texts = [". ".join(sentences[start : start + 3]) + "." for start in range(0, 480, 3)]
        rows = [{"id": f"doc{i}", "text": text} for i, text in enumerate(texts)]
        source = tiny.write_lines(root / "documents.jsonl", rows)
    tiny.write_model(
        root / "big", hidden=48, seed=1, prompts={"query": tiny.PROMPT}, mrl_dims=(48, 24)
    )
    tiny.write_model(root / "small", hidden=32, seed=2)
    plain = tiny.tiny_recipe(root, root / "ck")
    plain["data"] |= {"corpus": f"jsonl:{source}", "num_made_queries": 440, "num_pseudo_texts": 0}
    plain["student"] |= {"kind": "instant", "head_steps": 0}
    plain["bench"] |= {"num_resamples": 400}
    plain["ladder"] = {"rungs": ["1l", "table"], "promises": [0.05, 0.5, 0.9999]} | ladder
    return tiny.write_recipe(root / "tiny.yaml", plain)


def finish(recipe: Path, *words: str) -> Path:
    """The student and the index of a recipe; returns its folder."""
    with open_run(load_recipe(str(recipe), words)) as run:
        teacher, corpus = load_teacher(run), load_corpus(run, run.recipe.data.corpus)
        targets = load_targets(run, teacher, corpus)
        save_student(run, teacher, corpus, targets)
        write_index(run, teacher, corpus, targets[0].vectors)
    return run.folder


def climb(recipe: Path, *words: str) -> Ladder:
    """The ladder of a finished recipe, whose rungs cost what ``COSTS`` says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "time_rungs", _time_rungs)
        with open_run(load_recipe(str(recipe), words)) as run:
            return build.run_ladder(run)


def _time_rungs(pair, rungs, texts, **limits: Any) -> Times:
    """What computes is found out as usual; what it takes is not."""
    found = time_rungs(pair, rungs, texts, **limits)
    return replace(times_of([COSTS[name] for name, _ in rungs]), timed_on=found.timed_on)


def with_ladder(folder: Path, copy: Path, change: Callable[[Ladder], Ladder]) -> Path:
    """A copy of a recipe's folder whose ladder says something else, sealed as if it had found
    that.
    """
    shutil.copytree(folder, copy)
    path = copy / LADDER / ROUTER_FOLDER / LADDER_FILE
    change(Ladder.load(path)).save(path)
    manifest = read_manifest(path.parent)
    seal(path.parent, manifest.step, manifest.inputs, {}, metrics={}, method=manifest.method)
    return copy


def times_of(query_ms: Sequence[float]) -> Times:
    """Rungs on one processor whose encoders take half of a query's time."""
    encode_ms = tuple(milliseconds / 2 for milliseconds in query_ms)
    return Times(encode_ms, tuple(query_ms), (TimedOn("cpu", "float32", 2),) * len(query_ms))
