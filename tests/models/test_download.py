"""What is downloaded of a hub model: no code that is not trusted, no weights twice."""

from __future__ import annotations

import json
from dataclasses import replace

import foreign_folders as ff
import numpy as np
import pytest
import torch
from fake_hub import FakeHub

from leafkit.config import TeacherConfig
from leafkit.core.errors import LeafkitError
from leafkit.models.builtin.hub import download
from leafkit.models.checkpoint import load_encoder
from leafkit.pipeline.model_handle import ModelOpener


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    fake = FakeHub(tmp_path / "repository", tmp_path / "cache")
    fake.repository.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    return fake


MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]
BIN, SAFE = "pytorch_model.bin", "model.safetensors"


@pytest.mark.parametrize(
    ("files", "modules", "expected"),
    [
        ([SAFE, BIN], None, {SAFE}),
        ([BIN], None, {BIN}),
        ([SAFE, BIN, f"2_Dense/{SAFE}", f"2_Dense/{BIN}"], MODULES, {SAFE, f"2_Dense/{SAFE}"}),
        ([SAFE, f"2_Dense/{BIN}"], MODULES, {SAFE, f"2_Dense/{BIN}"}),
        ([BIN, f"2_Dense/{SAFE}"], MODULES, {BIN, f"2_Dense/{SAFE}"}),
        (
            ["pytorch_model-00001-of-00002.bin", "openvino_model.bin", "training_args.bin"],
            None,
            {"pytorch_model-00001-of-00002.bin"},
        ),
    ],
)
def test_older_weights_are_downloaded_where_there_are_no_others(hub, files, modules, expected):
    for name in [*files, "modeling_own.py", "README.md", "1_Pooling/config.json"]:
        (hub.repository / name).parent.mkdir(exist_ok=True)
        (hub.repository / name).write_text("{}")
    if modules:
        (hub.repository / "modules.json").write_text(json.dumps(modules))
    folder = download("owner/name", "0" * 40)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found - {"modules.json", "1_Pooling/config.json"} == expected


def test_a_hub_models_code_is_fetched_and_run_where_it_is_trusted(hub, tmp_path):
    pytest.importorskip("sentence_transformers", reason="pip install sentence-transformers")
    ff.write_own_code(hub.repository, ff.write_bare(tmp_path / "bare", "qwen2"))
    reference = f"model:owner/name@{'a' * 40}"
    config = TeacherConfig(source=reference)
    opener = ModelOpener(torch.device("cpu"), torch.float32, tmp_path / "checkpoints", config)
    with pytest.raises(LeafkitError, match=r"code of its own .*, which is not trusted"):
        opener.open_teacher()
    assert not list(hub.cache.rglob("*.py"))
    trusting = replace(opener, teacher=replace(config, trust_remote_code=True))
    model = trusting.open_teacher().model
    local = replace(
        trusting, teacher=TeacherConfig(source=f"model:{hub.repository}", trust_remote_code=True)
    )
    expected = local.open_teacher().model.embed(["a matrix"], "query", 64)
    np.testing.assert_array_equal(model.embed(["a matrix"], "query", 64), expected)
    assert {revision for _, revision, _ in hub.asked} == {"a" * 40}
    with pytest.raises(LeafkitError, match="is computed by code of its own"):  # no student's start
        load_encoder(reference, trust_remote_code=True)
