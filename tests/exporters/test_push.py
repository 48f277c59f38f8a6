"""What would be uploaded is said first; an upload is checked by what comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import tiny

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.exporters import hugging_face
from leafkit.exporters.push import Upload, check_repository, describe_push, plan_push, push

HUB = Path(__file__).parents[1] / "support" / "playing_hub.py"
TOKEN = "hf_secret"


class FakeHub:
    """Repositories in memory."""

    def __init__(self, public: Sequence[str] = (), spoiled: str = "") -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private = dict.fromkeys(public, False)
        self.spoiled = spoiled

    def create(self, repository: str, *, private: bool) -> bool:
        return self.private.setdefault(repository, private)

    def commit(self, repository: str, folder: Path, names: Sequence[str]) -> str:
        self.files[repository] = {name: (folder / name).read_bytes() for name in names}
        return "c1"

    def download(self, repository: str, commit: str, name: str, folder: Path) -> Path:
        path = folder / "file"
        path.write_bytes(self.files[repository][name] + (b"!" if name == self.spoiled else b""))
        return path


@pytest.fixture
def places(tmp_path) -> dict[str, Path]:
    files = {
        "student": {"README.md": b"# mini", "1_Pooling/config.json": b"{}", "manifest.json": b"{}"},
        "teacher": {"README.md": b"# big"},
        "pair": {"README.md": b"# both"},
        "onnx": {"onnx/model.onnx": bytes(2_500_000), ".verified.json": b"{}"},
    }
    for name, content in files.items():
        for path, data in content.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(data)
    return {name: tmp_path / name for name in files}


def test_the_plan_names_files_sizes_repositories_and_who_sees_them(places):
    uploads = plan_push(places, "me/mini")
    assert [upload.repository for upload in uploads] == ["me/mini", "me/mini-onnx"]
    assert dict(uploads[0].files) == {"1_Pooling/config.json": 2, "README.md": 6}
    kept = places | {"web": places["pair"].with_name("web")}
    told = describe_push(uploads, kept, private=True, license_id="mit")
    for text in (
        "me/mini (private, if it is new): 2 files, 8 B",
        "me/mini-onnx (private, if it is new): 1 file, 2.5 MB",
        "2.5 MB  onnx/model.onnx",
        "not uploaded: teacher: its weights are its makers'",
        "not uploaded: pair: the teacher's weights are in it",
        "not uploaded: web: your documents are in it",
        "license: mit",
    ):
        assert text in told
    told = describe_push(uploads, {}, private=False, license_id="")
    assert "public: everyone can read it" in told
    assert "none is named" in told
    assert "not uploaded" not in told


def test_a_teacher_alone_is_not_uploaded(places):
    with pytest.raises(UsageError, match="nothing of teacher, pair can be uploaded"):
        plan_push({name: places[name] for name in ("teacher", "pair")}, "me/mini")


def test_all_is_uploaded_and_compared(places, capsys):
    hub = FakeHub()
    found = push(plan_push(places, "me/mini"), hub, private=True)
    assert found == {"me/mini": "c1", "me/mini-onnx": "c1"}
    assert hub.private == {"me/mini": True, "me/mini-onnx": True}
    assert hub.files["me/mini"] == {"1_Pooling/config.json": b"{}", "README.md": b"# mini"}
    assert "me/mini@c1: 2 files, 8 B, downloaded again with equal sha256" in " ".join(
        capsys.readouterr().out.split()
    )


def test_other_bytes_that_come_back_are_noticed(places):
    with pytest.raises(LeafkitError, match=r"me/mini-onnx@c1: onnx/model.onnx has another sha256"):
        push(plan_push(places, "me/mini"), FakeHub(spoiled="onnx/model.onnx"), private=True)


def test_what_is_to_be_private_goes_into_no_public_repository(places):
    hub = FakeHub(public=["me/mini"])
    with pytest.raises(LeafkitError, match="me/mini is there already and is public"):
        push(plan_push(places, "me/mini"), hub, private=True)
    assert hub.files == {}
    push(plan_push(places, "me/mini"), hub, private=False)
    assert set(hub.files) == {"me/mini", "me/mini-onnx"}


@pytest.mark.parametrize("name", ["", "mini", "a/b/c", "me/", "/mini", "me/../x", "me/a--b", "é/a"])
def test_what_is_no_repository_is_refused(name):
    with pytest.raises(UsageError, match="is no repository") as err:
        check_repository(name)
    assert "OWNER/NAME" in err.value.hint


def test_repositories_are_taken():
    for name in ("me/mini", "My-Org/kalm-to-23m_v1.2", "a/b"):
        check_repository(name)


def test_without_a_token_and_offline_nothing_begins(monkeypatch):
    import huggingface_hub
    from huggingface_hub import constants

    with pytest.raises(LeafkitError, match="HF_HUB_OFFLINE is set"):
        hugging_face.HuggingFaceHub()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(LeafkitError, match="there is no token") as err:
        hugging_face.HuggingFaceHub()
    assert "HF_TOKEN" in err.value.hint


CODE = """
import sys
from pathlib import Path
from leafkit.core.console import set_verbosity
from leafkit.core.errors import LeafkitError
from leafkit.exporters.hugging_face import HuggingFaceHub
from leafkit.exporters.push import plan_push, push

set_verbosity("info")
try:
    push(plan_push({"student": Path(sys.argv[1])}, "me/mini"), HuggingFaceHub(), private=True)
except LeafkitError as err:
    sys.exit(f"{err} ({err.hint})")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "does", "expected"),
    [
        (TOKEN, "", "downloaded again with equal sha256"),
        (TOKEN, "spoil", "model.safetensors has another sha256"),
        ("hf_other", "", "me/mini: the token has no right to write there"),
        (TOKEN, "refuse", "license must be one of [apache-2.0, mit] (its words name what"),
    ],
)
def test_a_model_goes_to_a_hub_and_comes_back_over_http(token, does, expected, tmp_path):
    tiny.write_model(tmp_path / "model")
    words = [sys.executable, str(HUB), TOKEN, *filter(None, [does])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as hub:
        try:
            assert hub.stdout is not None
            address = hub.stdout.readline().strip()
            done = subprocess.run(
                [sys.executable, "-c", CODE, str(tmp_path / "model")],
                env=tiny.environment(
                    HF_ENDPOINT=address,
                    HF_TOKEN=token,
                    HF_HUB_OFFLINE="0",
                    HF_HOME=str(tmp_path / "home"),
                    HF_HUB_DISABLE_XET="1",
                ),
                capture_output=True,
                text=True,
                check=False,
                timeout=240,
            )
        finally:
            hub.kill()
    said = " ".join((done.stdout + done.stderr).split())
    assert expected in said, said
    assert (done.returncode == 0) == (expected.startswith("downloaded"))
    assert TOKEN not in said
    assert "hf_other" not in said


def test_sizes_are_those_of_all_files():
    assert Upload("a/b", Path(), {"x": 3, "y": 4}).num_bytes == 7
