"""A finished tiny recipe and its ladder, without the benchmark, and with times that are the same on
every machine.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets, save_student
from leafkit.pipeline.document_index import write_index
from leafkit.pipeline.ladder import build
from leafkit.pipeline.ladder.measure import Times
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import open_run
from leafkit.results import Ladder

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


def _time_rungs(pair, rungs, texts) -> Times:
    assert texts
    costs = tuple(COSTS[rung.name] for rung in rungs)
    return Times(costs, costs)
