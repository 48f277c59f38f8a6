"""Targets are checked before anything is written, and nothing foreign is replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from leafkit.core.artifact import open_artifact
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.exporters import targets
from leafkit.exporters.hub import document_model
from leafkit.exporters.source import ExportSource, no_teacher
from leafkit.exporters.target_names import GROUPS, TARGET_NAMES
from leafkit.exporters.targets import write_targets
from leafkit.exporters.token_graph import compare_graph
from leafkit.models.encoder_protocol import read_model
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer


def source(seed: int = 0) -> ExportSource:
    return ExportSource(tiny.make_encoder(seed=seed).eval(), {"kind": "student", "teacher": "abc"})


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_every_target_is_a_folder_of_its_own(tmp_path):
    places = write_targets(source(), tmp_path / "out", ["student", "onnx"])
    hub = tmp_path / "out" / "hub"
    assert places == {"student": hub / "student", "onnx": hub / "student-onnx"}
    encoder = read_model(places["student"])
    assert compare_graph(encoder, places["onnx"] / "onnx" / "model.onnx", ["draw"]) >= 1 - 1e-6
    for name, place in places.items():
        manifest = open_artifact(place, f"export-{name}")
        assert min(manifest.metrics["smallest_cosine"].values()) > 0.9
    assert {p.name for p in hub.iterdir()} == {"student", "student-onnx"}


def test_every_word_has_what_writes_it():
    assert tuple(targets.TARGETS) == TARGET_NAMES
    assert {name for group in GROUPS.values() for name in group} <= set(TARGET_NAMES)
    subfolders = [target.subfolder for target in targets.TARGETS.values()]
    assert len(set(subfolders)) == len(subfolders)


def test_an_earlier_export_is_replaced(tmp_path):
    write_targets(source(), tmp_path, ["hub"])
    before = tree(tmp_path)
    write_targets(source(seed=1), tmp_path, "hub")
    after = tree(tmp_path)
    assert before.keys() == after.keys()
    assert before["hub/student/model.safetensors"] != after["hub/student/model.safetensors"]


def test_what_an_earlier_export_left_of_another_student_is_named(tmp_path, capsys):
    def pair_of(seed: int, teacher=None) -> ExportSource:
        student = source(seed)
        served = document_model(
            tiny.make_encoder(seed=3).eval(), dim=32, max_tokens=0, reference="r"
        )
        return replace(student, teacher=teacher or (lambda: served))

    write_targets(pair_of(0), tmp_path, ["hub"])
    write_targets(pair_of(0), tmp_path, ["student"])
    assert "earlier export" not in "".join(capsys.readouterr())
    write_targets(pair_of(1, no_teacher), tmp_path, ["hub"])
    said = " ".join("".join(capsys.readouterr()).split())
    for name in ("teacher", "pair"):
        assert f"hub/{name} is an earlier export, of another student" in said
    # another space is named as well, and a folder that is replaced is not
    other = replace(pair_of(1), space={"kind": "student", "teacher": "xyz"})
    write_targets(other, tmp_path, ["student", "teacher"])
    said = " ".join("".join(capsys.readouterr()).split())
    assert "hub/pair is an earlier export, of another student and another space" in said
    assert "hub/teacher is" not in said


@pytest.mark.parametrize(
    "foreign", ["hub/notes.txt", "hub/student/notes.txt", "hub/student/.git/config"]
)
def test_foreign_files_stay(foreign, tmp_path):
    write_targets(source(), tmp_path, ["hub"])
    path = tmp_path / foreign
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    before = tree(tmp_path)
    if foreign == "hub/notes.txt":
        write_targets(source(seed=1), tmp_path, ["hub"])
        assert path.read_text() == "mine"
        return
    with pytest.raises(LeafkitError, match="not as an export wrote it"):
        write_targets(source(seed=1), tmp_path, ["hub"])
    assert tree(tmp_path) == before


def test_a_card_that_was_edited_stays(tmp_path):
    write_targets(source(), tmp_path, ["hub"])
    (tmp_path / "hub" / "student" / "README.md").write_text("my words")
    with pytest.raises(LeafkitError, match=r"README\.md, which is not as an export wrote it"):
        write_targets(source(seed=1), tmp_path, ["hub"])
    assert (tmp_path / "hub" / "student" / "README.md").read_text() == "my words"


def test_what_is_no_export_is_not_replaced(tmp_path):
    tiny.write_model(tmp_path / "hub" / "student")
    before = tree(tmp_path)
    with pytest.raises(LeafkitError, match="is no export to student"):
        write_targets(source(), tmp_path, ["onnx", "hub"])
    assert tree(tmp_path) == before  # the graph was not written either
    (tmp_path / "file").write_text("")
    with pytest.raises(LeafkitError, match="is a file"):
        write_targets(source(), tmp_path / "file", ["hub"])


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ((), "no target"),
        (["hub", "tei"], "target 'tei' is not known"),
        (["hub", "hub"], "named twice"),
        (["hub", "pair"], "named twice"),
    ],
)
def test_other_targets_are_refused_with_what_there_is(to, message, tmp_path):
    with pytest.raises(UsageError, match=message) as refused:
        write_targets(source(), tmp_path / "out", to)
    if "twice" not in message:
        assert "hub, student, teacher, pair, onnx, openvino, web" in refused.value.hint
    assert not (tmp_path / "out").exists()


def test_a_table_has_no_graph_and_nothing_is_written(tmp_path):
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    static = ExportSource(StaticEncoder(tokenizer, table, nn.Linear(8, 24)).eval(), name="mini")
    with pytest.raises(LeafkitError, match="mini is a table"):
        write_targets(static, tmp_path / "out", ["student", "onnx"])
    assert not (tmp_path / "out").exists()


def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch):
    write_targets(source(), tmp_path, ["hub"])
    before = tree(tmp_path)

    def fail(source, folder):
        (folder / "half").write_text("half")
        raise LeafkitError("no")

    target = targets.TARGETS["student"]
    broken = targets.Target(target.subfolder, target.check, fail)
    monkeypatch.setitem(targets.TARGETS, "student", broken)
    with pytest.raises(LeafkitError, match="no"):
        write_targets(source(seed=1), tmp_path, ["hub"])
    assert tree(tmp_path) == before
