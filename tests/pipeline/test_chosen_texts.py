"""A source's texts in the order of what the start model lacks: which they are, and that a run with
a smaller limit finds what one that was stopped has embedded.
"""

from __future__ import annotations

import numpy as np
import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.evaluation.leverage import order_by_leverage
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.distill import load_targets
from leafkit.pipeline.model_handle import load_teacher
from leafkit.pipeline.run import open_run

TEXTS = [document for _, document in tiny.make_pairs(160)][100:]
WHAT = "big vectors of extra documents"


@pytest.fixture
def load(home, tmp_path):
    """Texts of the source in a recipe's targets, and what its vectors were copied from."""
    extra = tmp_path / "extra.jsonl"
    tiny.write_lines(extra, [{"id": f"{i}", "text": text} for i, text in enumerate(TEXTS)])
    recipe = tiny.tiny_recipe(home, tmp_path / "ck")

    def targets(**source):
        recipe["data"]["sources"] = {"extra": {"uri": f"jsonl:{extra}", **source}}
        path = tiny.write_recipe(tmp_path / "tiny.yaml", recipe)
        with open_run(load_recipe(str(path))) as run:
            corpus, teacher = load_corpus(run, run.recipe.data.corpus), load_teacher(run)
            found = {target.name: target for target in load_targets(run, teacher, corpus)}
            steps = {step["name"]: step for step in run.steps}
        return found["extra documents"], steps

    return targets


def test_the_start_model_says_which_texts_come_first(load, home, capsys):
    start = tiny.with_spec(read_encoder(home / "small"), normalized=False)
    states = start(start.tokenize(TEXTS, "document", 48)).detach().numpy().astype(np.float16)
    expected = [TEXTS[i] for i in order_by_leverage(states)]
    target, _ = load(limit=20, choose="leverage")
    assert target.texts == expected[:20]
    assert "texts chosen by the start model (choose=leverage) out of 60: 20" in "".join(
        capsys.readouterr()
    )
    drawn, _ = load(limit=20)
    assert drawn.texts != target.texts
    assert set(drawn.texts) < set(TEXTS)


def test_a_smaller_limit_embeds_nothing_again(load):
    whole, _ = load(choose="leverage")
    assert sorted(whole.texts) == sorted(TEXTS)
    part, steps = load(limit=12, choose="leverage")
    assert part.texts == whole.texts[:12]
    assert steps[WHAT]["reused"] == 12
    assert np.array_equal(part.vectors[:12], whole.vectors[:12])
