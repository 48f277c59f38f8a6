"""``leafkit export`` for other tools: its words, and the road from a recipe to their folders."""

from __future__ import annotations

import json

import pytest
import tiny

from leafkit.cli import main
from leafkit.core.artifact import open_artifact
from leafkit.exporters import hugging_face
from leafkit.exporters.target_names import TARGET_NAMES
from leafkit.models.encoder_protocol import read_model
from leafkit.models.folder import read_space
from leafkit.pipeline.load_pair import load_pair

RECIPE = "recipe=kalm-to-23m"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["to=tei"], "target 'tei' is not known"),
        (["to="], "there is no target"),
        (["to=hub,student"], "named twice"),
        (["to=hub", "to=onnx"], "to= comes twice"),
        (["to=hub", "push=mini"], "is no repository"),
        (["to=hub", "push="], "is no repository"),
        (["to=web", "push=me/mini"], "push=me/mini: nothing of web can be uploaded"),
        (["to=teacher,pair", "push=me/mini"], "nothing of teacher, pair can be uploaded"),
        (["to=hub", "yes=true"], "yes=true is for push="),
        (["to=hub", "private=false"], "private=false is for push="),
        (["to=hub", "push=me/mini", "yes=1"], "yes=1 is neither true nor false"),
        (["to=hub", "web_runtime=npm"], "web_runtime=npm is for to=web"),
        (["to=hub", "license=MIT License"], "is not an identifier"),
        (["to=hub", "data.corpus=builtin:pydocs"], "no effect in leafkit export to="),
        (["to=hub", "student.num_epochs=2"], "no effect in leafkit export"),
        (["to=hub", "bench.splitt=x"], "bench.splitt"),
    ],
)
def test_wrong_words_are_refused_before_any_work(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["export", RECIPE, *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_an_upload_without_a_hub_ends_before_the_work(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["export", RECIPE, "to=hub", "push=me/mini", "yes=true"]) == 1
    assert "HF_HUB_OFFLINE is set" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_the_targets_are_named_where_the_command_explains_itself(capsys):
    assert main.main(["export", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(word in told for word in ("to=", "push=", "yes=true", "license="))
    assert set(TARGET_NAMES) >= {"student", "teacher", "pair", "onnx", "openvino"}


class Hub:
    """Takes everything and gives it back."""

    def __init__(self) -> None:
        self.taken = {}

    def create(self, repository, *, private):
        return private

    def commit(self, repository, folder, names):
        self.taken[repository] = {name: (folder / name).read_bytes() for name in names}
        return "c1"

    def download(self, repository, commit, name, folder):
        path = folder / "file"
        path.write_bytes(self.taken[repository][name])
        return path


@pytest.mark.slow
def test_a_finished_recipe_becomes_folders_and_goes_to_the_hub(tmp_path, capsys, monkeypatch):
    home = tiny.make_home(tmp_path / "home")
    value = tiny.tiny_recipe(home, tmp_path / "ck")
    path = tiny.write_recipe(tmp_path / "tiny.yaml", value)
    assert main.main(["distill", f"recipe={path}"]) == 0
    folder = tmp_path / "ck" / "tiny"
    words = ["export", f"recipe={path}", "to=hub", "license=apache-2.0", "push=me/mini"]
    capsys.readouterr()
    assert main.main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "me/mini (private, if it is new)" in said
    assert "nothing was uploaded" in said
    assert "not uploaded: teacher: its weights" in said
    assert "not uploaded: pair: the teacher's weights" in said
    for name in ("student", "teacher", "pair"):
        open_artifact(folder / "hub" / name, f"export-{name}")
    student, pair = read_model(folder / "hub" / "student"), load_pair(folder)
    assert student.spec == pair.student.spec
    assert read_space(folder / "hub" / "student")["teacher"] == pair.space.teacher
    assert read_model(folder / "hub" / "teacher").spec.max_tokens == 48
    card = (folder / "hub" / "student" / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "interval_95" in card
    assert 'student = SentenceTransformer("me/mini")' in card  # the report's own code, too
    assert "OF_THIS_MODEL" not in card
    assert "\n# mini\n" in card
    told = json.loads(
        (folder / "hub" / "student" / "config_sentence_transformers.json").read_text()
    )
    assert told["default_prompt_name"] == "query"
    hub = Hub()
    monkeypatch.setattr(hugging_face, "HuggingFaceHub", lambda: hub)
    assert main.main([*words, "yes=true"]) == 0
    assert "downloaded again with equal sha256" in " ".join(capsys.readouterr().out.split())
    assert set(hub.taken) == {"me/mini"}
    assert "model.safetensors" in hub.taken["me/mini"]
    assert "manifest.json" not in hub.taken["me/mini"]
    # another cut than the index's is not taken from the command line
    assert main.main(["export", f"recipe={path}", "to=hub", "data.max_document_tokens=20"]) == 2
    assert "were cut at 48 tokens" in " ".join("".join(capsys.readouterr()).split())
    # search and serve keep their own graphs, and a run again finds all in its place
    assert not (folder / "export").exists()
    assert main.main(["distill", f"recipe={path}"]) == 0
