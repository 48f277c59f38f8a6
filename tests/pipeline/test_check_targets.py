"""What can only fail at publishing is found before the work."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from leafkit.config import Recipe, StageConfig
from leafkit.config.load import load_recipe
from leafkit.core.artifact import publish
from leafkit.core.disk_space import require_space
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import Collection, Document
from leafkit.data.vector_store import Space
from leafkit.pipeline.check_targets import check_targets
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.document_index import save_documents
from leafkit.pipeline.run import folder_name, open_run

STEPS = ["student", "index", "bench", "inherit", "contamination", "diagnosis", "export", "synth"]
STEPS += ["tune", "mined/tune/rows"]


def recipe_in(root: Path, **changes: Any) -> Recipe:
    root.mkdir(exist_ok=True)
    recipe = Recipe(name="mine", checkpoints=str(root), stages={"tune": StageConfig()})
    return replace(recipe, **changes)


def _file(place: Path) -> None:
    place.write_text("mine")


def _folder(place: Path) -> None:
    place.mkdir()
    (place / "notes.txt").write_text("mine")


def _link(place: Path) -> None:
    place.symlink_to("nowhere")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("put", [_file, _folder, _link])
def test_what_stands_in_the_way_is_found_before_the_work(
    tmp_path: Path, step: str, put: Any
) -> None:
    recipe = recipe_in(tmp_path / "ck")
    (tmp_path / "ck" / "mine" / step).parent.mkdir(parents=True)
    check_targets(recipe)
    put(tmp_path / "ck" / "mine" / step)
    with pytest.raises(LeafkitError, match=f"mine/{step} is no leafkit artifact") as caught:
        check_targets(recipe)
    assert "move it elsewhere" in caught.value.hint


def test_finished_steps_are_in_nobodys_way(tmp_path: Path) -> None:
    recipe = recipe_in(tmp_path / "ck")
    for step in STEPS:
        with publish(tmp_path / "ck" / "mine" / step, step, {}, {}) as draft:
            (draft / "f").write_text("x")
    check_targets(recipe)


@pytest.mark.parametrize("letter", ["a", "é"])
@pytest.mark.parametrize("where", ["recipe", "stage"])
def test_a_name_that_no_folder_can_have(tmp_path: Path, letter: str, where: str) -> None:
    name = letter * 249
    recipe = recipe_in(tmp_path / "ck")
    recipe = (
        replace(recipe, name=name)
        if where == "recipe"
        else replace(recipe, stages={name: StageConfig()})
    )
    with pytest.raises(UsageError, match=r"has \d+ bytes, and a folder in .* can have \d+"):
        check_targets(recipe)


def test_a_model_or_a_source_of_any_name_has_its_folder() -> None:
    name = folder_name("x" * 250 + "-end")
    assert len(name) == 100
    assert name.endswith("-end")


@pytest.mark.parametrize("place", ["", "mine", "vectors", "corpora", "measured", "tokens"])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    recipe = recipe_in(tmp_path / "ck")
    folder = tmp_path / "ck" / place
    folder.mkdir(exist_ok=True)
    check_targets(recipe)

    def refuse(dir: Path) -> Any:  # the superuser of a test may write anywhere
        if Path(dir) == folder:
            raise PermissionError(13, "Permission denied", str(dir))
        return (tmp_path / "probe").open("w")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(LeafkitError, match=r"cannot write .*: Permission denied") as caught:
        check_targets(recipe)
    assert str(folder) in str(caught.value)


def test_a_run_is_refused_before_it_reads_anything(home, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "leafkit.pipeline.distill.load_corpus", lambda *_: pytest.fail("work was begun")
    )
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    _folder_of = tmp_path / "ck" / "tiny"
    _folder_of.mkdir(parents=True)
    _folder(_folder_of / "index")
    with (
        pytest.raises(LeafkitError, match="tiny/index is no leafkit artifact"),
        open_run(load_recipe(str(recipe))) as run,
    ):
        run_distill(run)


# --- room


Usage = namedtuple("Usage", "total used free")


def test_room_is_asked_for_before_the_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 0, 3 * 2**20))
    require_space(tmp_path / "not" / "yet", 3 * 2**20, "things")
    with pytest.raises(LeafkitError, match=r"things take 3\.1 MiB, and .* has 3\.0 MiB left") as c:
        require_space(tmp_path / "not" / "yet", 3 * 2**20 + 2**17, "things")
    assert str(tmp_path) in str(c.value)
    assert "free some space" in c.value.hint


# --- a disk that fills up all the same


def _weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(100_000)}, folder / "model.safetensors")


def _model(folder: Path) -> None:
    tiny.write_model(folder / "model", dim=48, seed=1)


def _index(folder: Path) -> None:
    documents = [Document(str(i), f"text {i}") for i in range(50)]
    space = Space("t", 2000, "", 9, "mean", normalized=True)
    vectors = np.random.default_rng(0).normal(size=(50, 2000)).astype(np.float32)
    save_documents(Collection("c", documents), vectors, space, folder)


def _torch(folder: Path) -> None:
    import torch

    torch.save(torch.zeros(100_000), folder / "x.pt")


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.random.default_rng(0).normal(size=100_000)
    pq.write_table(pa.table({"x": rows}), folder / "x.parquet")


def _json(folder: Path) -> None:
    (folder / "x.json").write_text(json.dumps(list(range(100_000))))


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {f"word{i}": i for i in range(20_000)}
    Tokenizer(WordLevel(words, unk_token="word0")).save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("write", [_weights, _model, _index, _torch, _parquet, _json, _tokenizer])
def test_a_full_disk_is_one_line_whoever_writes_and_nothing_is_left(
    tiny_disk: Path, write: Any
) -> None:
    target = tiny_disk / "mine"
    with (
        pytest.raises(LeafkitError, match=r"cannot write .*mine") as caught,
        publish(target, "s", {}, {}) as draft,
    ):
        write(draft)
    assert "free some space" in caught.value.hint
    assert "\n" not in str(caught.value)
    assert list(tiny_disk.iterdir()) == []
