"""Two processes (gloo) compute what one computes, through the real command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file

from leafkit.core.artifact import open_artifact

pytestmark = pytest.mark.slow


class Outcome:
    """The same recipes run by one process and by two."""

    def __init__(self, root: Path) -> None:
        home = tiny.make_home(root / "home")
        stage = tiny.tiny_stage(home, num_steps=6)
        teach = tiny.tiny_recipe(home, root / "unset") | {"stages": {"only": stage}}
        self.teach = tiny.write_recipe(root / "teach.yaml", teach)
        # 24 tokens are one or two texts: many batches have fewer rows than there are processes.
        student = tiny.tiny_recipe(home, root / "unset") | {
            "teacher": {"source": f"recipe:{self.teach}"}
        }
        student["student"] |= {"tokens_per_batch": 24, "num_epochs": 0.2, "optimizer": {"lr": 1e-4}}
        student["student"]["ema"] = 0.5  # each process averages weights that are the same
        self.distill = tiny.write_recipe(root / "tiny.yaml", student)
        self.folders = {1: root / "one", 2: root / "two"}
        self.runs: dict[tuple[str, int], subprocess.CompletedProcess[str]] = {}
        for processes, folder in self.folders.items():
            for command in ("teach", "distill"):
                words = (command, f"recipe={getattr(self, command)}", f"checkpoints={folder}")
                done = tiny.run_cli(*words, processes=processes)
                assert done.returncode == 0, done.stderr[-3000:]
                self.runs[command, processes] = done


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Outcome:
    return Outcome(tmp_path_factory.mktemp("processes"))


@pytest.mark.parametrize("part", ["teach/only", "tiny/student"])
def test_the_loss_curves_are_equal(outcome, part):
    curves = [
        json.loads((folder / part / "losses.json").read_text())
        for folder in outcome.folders.values()
    ]
    assert len(curves[0]) >= 6
    assert len(set(curves[0])) > 3
    # Adam turns rounding into steps of full size where a gradient is nearly zero, so late losses
    # drift apart a little further.
    assert curves[1][:4] == pytest.approx(curves[0][:4], rel=1e-4)
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)


@pytest.mark.parametrize("part", ["teach/only", "tiny/student"])
def test_the_weights_are_equal_up_to_rounding(outcome, part):
    one, two = (
        load_file(folder / part / "model.safetensors") for folder in outcome.folders.values()
    )
    assert (
        max(float((one[name] - two[name]).abs().max()) for name in one if "key.bias" not in name)
        < 1e-3
    )
    total = torch.cat([(one[name] - two[name]).flatten() for name in one])
    assert float(total.norm()) < 1e-3 * float(
        torch.cat([value.flatten() for value in one.values()]).norm()
    )


def test_some_batches_had_fewer_rows_than_processes(outcome):
    """Else the comparison above would not say anything about them."""
    from leafkit.data.batching import token_budget_batches
    from leafkit.models.checkpoint import read_encoder

    tokenizer = read_encoder(outcome.folders[1] / "tiny" / "student")
    lengths = [
        len(ids)
        for ids in tokenizer.tokenize(
            [document for _, document in tiny.make_pairs()], "document", 48
        )
    ]
    assert min(len(batch) for batch in token_budget_batches(lengths, 24, 128, 42, epoch=0)) == 1


@pytest.mark.parametrize(
    "part", ["teach/only", "tiny/student", "tiny/index", "tiny/bench", "tiny/inherit"]
)
def test_artifacts_are_whole_and_written_once(outcome, part):
    folder = outcome.folders[2] / part
    open_artifact(folder, folder.name)
    assert not list(outcome.folders[2].rglob(".*.draft"))
    assert not list(outcome.folders[2].rglob("*.tmp"))


def test_only_one_process_speaks(outcome):
    shown = outcome.runs["distill", 2].stdout
    assert "2 process(es)" in shown
    assert shown.count("student ...") == 1
    assert shown.count("only: up to date") == 1
    assert "Traceback" not in outcome.runs["distill", 2].stderr


def test_vector_stores_of_two_processes_hold_what_one_computes(outcome):
    stores = [
        sorted(p.relative_to(folder) for p in (folder / "vectors").rglob("*.vectors"))
        for folder in outcome.folders.values()
    ]
    names = [{p.parent.name.rsplit("-", 1)[0] for p in found} for found in stores]
    assert names[0] == names[1]


def test_a_failure_of_the_first_process_ends_all_of_them(outcome, tmp_path):
    done = tiny.run_cli(
        "teach",
        f"recipe={outcome.teach}",
        f"checkpoints={tmp_path / 'ck'}",
        "stages.only.batch_size=7",
        processes=2,
    )
    assert done.returncode != 0
    assert "batch_size=7 does not divide among 2 processes" in done.stderr


# --- a stage with everything


class Everything:
    """A stage with mining, the filter, mixing, soft labels and three sources, run by one process
    and by two.
    """

    def __init__(self, root: Path) -> None:
        home = tiny.make_home(root / "home")
        pairs = tiny.make_pairs(72)
        rows = {
            "pairs": [{"query": q, "positive": d} for q, d in pairs[:40]],
            "given": [
                {"query": q, "positive": d, "negatives": [pairs[i][1]]}
                for i, (q, d) in enumerate(pairs[40:])
            ],
            "labels": [{"text": q, "label": q.split()[0]} for q, _ in pairs],
        }
        for name, content in rows.items():
            (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
        sources = {
            name: {"uri": f"jsonl:{root / name}.jsonl", "weight": 1.0 + (name == "pairs")}
            for name in rows
        }
        sources["labels"] |= {"task": "clustering", "instruction": "sort"}
        stage = tiny.tiny_stage(
            home,
            num_steps=6,
            sources=sources,
            batching="random",
            same_task_ratio=0.5,
            loss={"focal_gamma": 0.5, "gor_weight": 0.1},
            mining={
                "model": "start",
                "num_negatives": 3,
                "first_rank": 0,
                "last_rank": 20,
                "filter_rank": 35,
            },
            mixing={"num_pairwise": 2, "num_listwise": 2},
            soft_labels={"models": ["bm25", f"model:{home / 'big'}"]},
            chunk_tokens=256,
        )
        self.recipe = tiny.write_recipe(
            root / "all.yaml", tiny.tiny_recipe(home, root / "unset") | {"stages": {"tune": stage}}
        )
        self.folders = {processes: root / str(processes) / "all" for processes in (1, 2)}
        for processes, folder in self.folders.items():
            done = tiny.run_cli(
                "teach",
                f"recipe={self.recipe}",
                f"checkpoints={folder.parent}",
                processes=processes,
            )
            assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> Everything:
    return Everything(tmp_path_factory.mktemp("everything"))


def test_mined_mixed_and_soft_labelled_training_is_equal(everything):
    one, two = (
        json.loads((folder / "tune" / "losses.json").read_text())
        for folder in everything.folders.values()
    )
    assert len(one) == 6
    assert len(set(one)) == 6
    assert two == pytest.approx(one, rel=1e-4)
    weights = [
        load_file(folder / "tune" / "model.safetensors") for folder in everything.folders.values()
    ]
    assert (
        max(
            float((weights[0][n] - weights[1][n]).abs().max())
            for n in weights[0]
            if "key.bias" not in n
        )
        < 1e-3
    )


def test_what_was_mined_and_drawn_is_equal(everything):
    one, two = everything.folders.values()
    for source in ("pairs", "given"):
        mined = [folder / "mined" / "tune" / source / "rows.jsonl" for folder in (one, two)]
        rows = [[json.loads(line) for line in path.read_text().splitlines()] for path in mined]
        assert len(rows[0]) > 10
        for a, b in zip(*rows, strict=True):
            assert (a["query"], a["negatives"], a["negative_ranks"]) == (
                b["query"],
                b["negatives"],
                b["negative_ranks"],
            )
            assert a["negative_scores"] == pytest.approx(b["negative_scores"], abs=1e-3)
    tables = [json.loads((folder / "tune" / "sources.json").read_text()) for folder in (one, two)]
    assert tables[0] == tables[1]
    assert all(line["drawn"] for line in tables[0])
