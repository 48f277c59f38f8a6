"""The batches of a stage: pure functions of the seed, equal on every rank, their mixing and each
source's part said.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import ContrastiveLossConfig, DataConfig, Recipe, StageConfig, TrainSourceConfig
from leafkit.core.errors import UsageError
from leafkit.data.training_rows import TrainingRows
from leafkit.pipeline.run import Run
from leafkit.pipeline.teacher.batch_plan import BatchPlan
from leafkit.pipeline.teacher.batch_plan import plan_batches as plan_batches_of
from leafkit.pipeline.teacher.task import Source
from leafkit.pipeline.teacher.teach import recipe_task, run_teach
from leafkit.pipeline.teacher.training_table import StageRows, join_sources
from leafkit.train.world import World

NAMES = ("retrieval", "labels", "other")
TASKS = {"labels": "clustering"}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    def make(seed: int = 1, rank: int = 0, size: int = 1) -> Run:
        recipe = Recipe(name="plan", seed=seed, checkpoints=str(tmp_path / "ck"), data=DataConfig())
        return Run(recipe, torch.device("cpu"), torch.float32, World(rank, size, size))

    return make


def plan_batches(run: Run, config: StageConfig, rows: StageRows) -> BatchPlan:
    return plan_batches_of(recipe_task(run, "tune", config), rows)


def stage_rows(
    sizes: tuple[int, ...] = (40, 40), weights: tuple[float, ...] = (1.0, 1.0)
) -> StageRows:
    """Rows of sources one after the other; each row asks for a document of its own."""
    sources = []
    texts = iter(tiny.make_pairs(sum(sizes)))
    for name, size, weight in zip(NAMES, sizes, weights, strict=False):
        rows = TrainingRows(name, relevant=[frozenset({i}) for i in range(size)])
        for i in range(size):
            query, document = next(texts)
            rows.documents.append(document)
            rows.add(query, "", i, i, negatives=[], scores=[])
        sources.append(
            Source(
                name,
                TrainSourceConfig(weight=weight, task=TASKS.get(name, "retrieval")),
                rows,
                num_read=size,
            )
        )
    return join_sources(sources)


def stage(**changes: Any) -> StageConfig:
    weight = changes.pop("anchor_weight", 0.0)
    loss = ContrastiveLossConfig(anchor_weight=weight)
    stage = StageConfig(batching="random", batch_size=8, num_steps=12, loss=loss)
    return replace(stage, **changes)


def same(a: BatchPlan, b: BatchPlan) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a.batches, b.batches, strict=True))


def share_of_others(plan: BatchPlan, source_of_row: np.ndarray) -> float:
    """Of all pairs of different rows in a batch, how many are of one source: counted one by one."""
    pairs = [
        (int(source_of_row[a]), int(source_of_row[b]))
        for batch in plan.batches
        for a in batch
        for b in batch
        if a != b
    ]
    return sum(a == b for a, b in pairs) / len(pairs)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_batches_depend_on_the_seed_alone_and_every_rank_makes_the_same(make_run, ratio) -> None:
    rows, config = stage_rows(), stage(same_task_ratio=ratio)
    first = plan_batches(make_run(), config, rows)
    for run in (
        make_run(),
        make_run(rank=0, size=2),
        make_run(rank=1, size=2),
        make_run(rank=3, size=4),
    ):
        assert same(plan_batches(run, config, rows), first)
    assert not same(plan_batches(make_run(seed=2), config, rows), first)
    assert all(len(set(batch.tolist())) == 8 for batch in first.batches)
    assert len(first.batches) == 12


def test_the_realised_share_is_what_counting_says_and_falls_with_the_ratio(
    make_run, capsys
) -> None:
    rows, shares = stage_rows(), []
    for ratio in (1.0, 0.75, 0.5, 0.0):
        plan = plan_batches(make_run(), stage(same_task_ratio=ratio, num_steps=40), rows)
        assert plan.same_task_share == pytest.approx(share_of_others(plan, rows.source_of_row))
        assert (
            f"same-task share of the batches: {plan.same_task_share:.3f} (ratio {ratio:g})"
            in capsys.readouterr().out
        )
        shares.append(plan.same_task_share)
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert 0.4 < shares[-1] < 0.6  # two sources of equal weight, fully mixed


def test_weights_are_the_shares_and_the_table_says_what_each_source_gave(make_run, capsys) -> None:
    rows = stage_rows((20, 40, 10), (3.0, 1.0, 0.0))
    rows.sources[0].num_read = 25
    rows.sources[0].rows.counts = {"rows left out": 5}
    plan = plan_batches(make_run(), stage(), rows)
    drawn = np.bincount(rows.source_of_row[np.concatenate(plan.batches)], minlength=3)
    assert drawn.tolist() == [72, 24, 0]
    table = {line["source"]: line for line in plan.table}
    assert [table[name]["drawn"] for name in NAMES] == drawn.tolist()
    assert (
        table["retrieval"]["read"],
        table["retrieval"]["kept"],
        table["retrieval"]["dropped"],
    ) == (25, 20, 5)
    assert (table["retrieval"]["share"], table["retrieval"]["repeats"]) == (0.75, 3.6)
    assert table["retrieval"]["counts"] == {"rows left out": 5}
    assert [table[name]["task"] for name in NAMES] == ["retrieval", "clustering", "retrieval"]
    shown = capsys.readouterr().out
    assert "what each source gave" in shown
    assert all(name in shown for name in NAMES)


def test_one_source_needs_no_table(make_run, capsys) -> None:
    plan = plan_batches(make_run(), stage(), stage_rows((40,), (1.0,)))
    assert plan.same_task_share == 1.0
    assert "what each source gave" not in capsys.readouterr().out


def test_neighbors_are_batched_in_their_source_and_labels_at_random(make_run, home) -> None:
    rows = stage_rows()
    config = stage(batching="neighbors", neighbor_model=f"model:{home / 'small'}", num_neighbors=4)
    run = make_run()
    plan = plan_batches(run, config, rows)
    assert plan.same_task_share == 1.0
    assert same(plan_batches(make_run(), config, rows), plan)
    embedded = [step["name"] for step in run.steps]
    assert any("retrieval documents" in name for name in embedded)
    assert not any("labels documents" in name for name in embedded)


def test_neighbors_lie_nearer_than_random_rows(make_run, home) -> None:
    from leafkit.models.checkpoint import read_encoder

    rows = stage_rows((72,), (1.0,))
    encoder = read_encoder(home / "small")
    raw = encoder(
        encoder.tokenize([rows.documents[p] for p in rows.positives], "document", 64)
    ).detach()
    vectors = encoder.finish(raw).numpy()

    def closeness(plan: BatchPlan) -> float:
        return float(np.mean([(vectors[b] @ vectors[b].T).mean() for b in plan.batches]))

    near = stage(batching="neighbors", neighbor_model=f"model:{home / 'small'}", num_neighbors=8)
    assert (
        closeness(plan_batches(make_run(), near, rows))
        > closeness(plan_batches(make_run(), stage(), rows)) + 0.01
    )


@pytest.mark.parametrize(
    ("changes", "sizes", "size", "match"),
    [
        ({"batch_size": 9}, (40, 40), 2, "batch_size=9 does not divide among 2 processes"),
        (
            {"anchor_weight": 1.0, "anchor_batch_size": 3},
            (40, 40),
            2,
            "anchor_batch_size=3 does not divide among 2 processes",
        ),
        (
            {"batch_size": 8},
            (40, 7),
            1,
            r"batch_size=8 cannot be filled .*retrieval: 40, labels: 7",
        ),
        (
            {"batching": "neighbors"},
            (40, 7),
            1,
            "batch_size=8 is more than the 7 training pairs there are in labels",
        ),
        ({"batch_size": 80, "same_task_ratio": 0.0}, (40, 20), 1, "batch_size=80 cannot be filled"),
    ],
)
def test_batches_that_cannot_be_made(make_run, changes, sizes, size, match) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        plan_batches(make_run(size=size), stage(**changes), stage_rows(sizes))
    assert caught.value.hint


def test_a_small_source_may_be_mixed_in_or_left_out(make_run) -> None:
    rows = stage_rows((40, 7))
    mixed = plan_batches(make_run(), stage(same_task_ratio=0.5), rows)
    assert all(len(set(batch.tolist())) == 8 for batch in mixed.batches)
    without = plan_batches(
        make_run(),
        stage(batching="neighbors", neighbor_model="tiny:bert"),
        stage_rows((40, 7), (1.0, 0.0)),
    )
    assert max(int(batch.max()) for batch in without.batches) < 40


def test_an_anchor_batch_that_is_not_used_need_not_divide(make_run) -> None:
    plan_batches(make_run(size=2), stage(anchor_weight=0.0, anchor_batch_size=3), stage_rows())


def test_the_stage_keeps_table_and_share(home, start, tmp_path) -> None:
    """One retrieval source with hard negatives of its own, one of labels; both end in the stage's
    artifact.
    """
    pairs = tiny.make_pairs(48)
    rows = [
        {"query": q, "positive": d, "negatives": [pairs[(i + 1) % 48][1]]}
        for i, (q, d) in enumerate(pairs)
    ]
    labels = [{"text": q, "label": q.split()[0]} for q, _ in pairs] + [
        {"text": "alone", "label": "alone"}
    ]
    for name, content in (("pairs", rows), ("labels", labels)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    sources = {
        "pairs": {"uri": f"jsonl:{tmp_path / 'pairs.jsonl'}", "weight": 3.0},
        "labels": {
            "uri": f"jsonl:{tmp_path / 'labels.jsonl'}",
            "task": "classification",
            "instruction": "classify",
        },
    }
    mining = {
        "model": "start",
        "num_negatives": 2,
        "first_rank": 0,
        "last_rank": 20,
        "max_positive_share": 0.0,
    }
    config = tiny.tiny_stage(
        home, sources=sources, mining=mining, batching="random", same_task_ratio=0.5, num_steps=8
    )
    recipe = tiny.write_recipe(
        tmp_path / "two.yaml",
        tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"both": config}},
    )
    run = start(recipe, work=run_teach)
    table = json.loads((run.folder / "both" / "sources.json").read_text())
    assert [(line["source"], line["task"], line["drawn"]) for line in table] == [
        ("pairs", "retrieval", 48),
        ("labels", "classification", 16),
    ]
    assert table[1]["counts"]["rows whose label has no other text left out"] >= 1
    manifest = json.loads((run.folder / "both" / "manifest.json").read_text())
    assert 0.3 < manifest["metrics"]["same_task_share"] < 0.9
