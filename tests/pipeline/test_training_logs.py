"""The trainer section of a recipe, through to the step's own folder."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import tiny

from leafkit.config.load import load_recipe
from leafkit.core.artifact import open_artifact
from leafkit.core.errors import UsageError
from leafkit.models.folder import fingerprint_of_folder
from leafkit.pipeline.teacher.teach import run_teach


@pytest.fixture
def recipe(home, tmp_path):
    stage = tiny.tiny_stage(home, batching="random")
    content = tiny.tiny_recipe(home, tmp_path / "ck") | {"stages": {"tune": stage}}
    return tiny.write_recipe(tmp_path / "teach.yaml", content)


@pytest.mark.slow
def test_what_loggers_wrote_is_part_of_the_step(recipe, start):
    plain = start(recipe, work=run_teach).folder / "tune"
    identity = fingerprint_of_folder(plain)
    assert not (plain / "logs").exists()
    logged = ["trainer.loggers=[csv]", "trainer.callbacks=[lr_monitor]", "force=true"]
    run = start(recipe, *logged, work=run_teach)
    folder = run.folder / "tune"
    open_artifact(folder, "tune")  # every file is in the manifest
    rows = list(csv.DictReader((folder / "logs" / "metrics.csv").open()))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert losses == pytest.approx(json.loads((folder / "losses.json").read_text()), rel=1e-5)
    assert [p.name for p in run.folder.iterdir() if p.name.endswith("logs")] == []
    assert fingerprint_of_folder(folder) == identity  # logging changes no model


@pytest.mark.slow
def test_accumulation_trains_another_teacher_on_as_many_steps(recipe, start):
    once = start(recipe, work=run_teach).folder / "tune"
    before = json.loads((once / "losses.json").read_text())
    run = start(recipe, "trainer.accumulate_grad_batches=2", work=run_teach)
    assert run.steps[-1]["status"] == "done"  # its inputs are others
    after = json.loads((run.folder / "tune" / "losses.json").read_text())
    assert (len(before), len(after)) == (4, 8)  # four optimizer steps each


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trainer.callbacks=[lr_monitor]"], "trainer.callbacks: lr_monitor would measure"),
        (["trainer.loggers=[mlflow]"], "trainer.loggers"),
        (["trainer.callbacks=[os.system]", "trainer.loggers=[csv]"], "trainer.callbacks"),
        (["trainer.strategy=deepspeed"], "trainer.strategy"),
        (["trainer.accumulate_grad_batches=0"], "trainer.accumulate_grad_batches"),
    ],
)
def test_what_the_section_cannot_do_is_refused(recipe, words, complaint):
    with pytest.raises(UsageError) as caught:
        load_recipe(str(recipe), words)
    assert complaint in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "folders"),
    [([], [""]), (["student.kind=static", "student.static.width=16"], ["documents", "queries"])],
)
def test_the_students_trainings_are_logged_too(home, tmp_path, start, words, folders):
    path = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    run = start(path, *words, "trainer.loggers=[csv]", "trainer.accumulate_grad_batches=2")
    losses = json.loads((run.folder / "student" / "losses.json").read_text())
    logged: list[float] = []
    for folder in folders:
        rows = csv.DictReader((run.folder / "student" / "logs" / folder / "metrics.csv").open())
        logged += [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert len(losses) // 2 <= len(logged) < len(losses)  # a row per optimizer step
    assert set(np.round(logged, 5)) <= set(np.round(losses, 5))
