"""What mteb is told of a model, and training data followed back through artifacts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb_task
import pytest
import tiny
import torch

from leafkit.config import (
    Recipe,
    SourceConfig,
    StageConfig,
    TeacherConfig,
    TrainSourceConfig,
    to_plain,
)
from leafkit.core.artifact import publish
from leafkit.core.errors import LeafkitError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.evaluation.mteb_meta import (
    BEIR_NAMES,
    Training,
    dataset_name,
    describe,
    disclosed_datasets,
    trace_training,
)
from leafkit.models.checkpoint import read_encoder, write_encoder

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"


def write_artifact(folder: Path, stage: str, recipe: dict[str, Any], space: dict[str, Any]) -> Path:
    encoder = tiny.make_encoder(prompts={"query": tiny.PROMPT}, mrl_dims=(32, 16))
    with publish(folder, stage, {}, recipe) as draft:
        write_encoder(encoder, draft, space)
    return folder


def make_artifacts(root: Path) -> tuple[Path, Path]:
    """A teacher of two stages, then its student."""
    recipe = to_plain(Recipe(name="big"))
    recipe["data"]["corpus"] = "builtin:pydocs"
    stages = {
        "warm": StageConfig(
            sources={
                "a": TrainSourceConfig(uri="beir:data/nfcorpus"),
                "b": TrainSourceConfig(uri="mteb:NQ@test"),
            }
        ),
        "tune": StageConfig(init="stage:warm"),
    }
    recipe["stages"] = to_plain(stages)
    for stage in stages:
        write_artifact(root / "big" / stage, stage, recipe, {"kind": "teacher"})
    teacher = root / "big" / "tune"
    recipe = to_plain(Recipe(name="small", teacher=TeacherConfig(source="recipe:big")))
    recipe["data"] |= {
        "corpus": "jsonl:rows/mine.jsonl",
        "sources": to_plain({"x": SourceConfig(uri="hf:owner/set:en@train")}),
    }
    student = write_artifact(
        root / "small" / "student", "student", recipe, {"teacher_reference": f"model:{teacher}"}
    )
    return student, teacher


def test_training_is_followed_to_the_teacher_its_stages_and_their_start(tmp_path):
    student, teacher = make_artifacts(tmp_path)
    of_teacher = trace_training([f"model:{teacher}"])
    assert of_teacher.sources == {"beir:data/nfcorpus", "mteb:NQ@test", "builtin:pydocs"}
    assert (of_teacher.starts, of_teacher.unknown) == ({HUB_ID}, set())
    of_student = trace_training([f"model:{student}"])
    assert of_student.sources == of_teacher.sources | {
        "jsonl:rows/mine.jsonl",
        "hf:owner/set:en@train",
    }
    assert (of_student.starts, of_student.unknown) == ({HUB_ID}, set())


def test_what_cannot_be_followed_is_said(tmp_path):
    assert trace_training(["model:owner/name@" + "0" * 40]).starts == {"owner/name"}
    assert trace_training(["endpoint:some-model"]).unknown == {"endpoint:some-model"}
    bare = tiny.write_model(tmp_path / "bare")
    assert trace_training([f"model:{bare}"]).unknown == {f"model:{bare}"}
    orphan = write_artifact(tmp_path / "orphan", "student", to_plain(Recipe()), {"kind": "student"})
    assert trace_training([f"model:{orphan}"]).unknown == {f"the teacher of {orphan}"}
    (orphan / "manifest.json").write_text("{")
    with pytest.raises(LeafkitError, match="is corrupt"):
        trace_training([f"model:{orphan}"])


def test_built_in_models_are_named_as_on_the_hub():
    found = trace_training(["builtin:minilm", "builtin:mpnet", "builtin:mpnett"])
    names = {HUB_ID, "sentence-transformers/all-mpnet-base-v2"}
    assert found == Training(set(), names, {"builtin:mpnett"})


def test_a_soup_s_members_and_soft_label_models_count(tmp_path):
    recipe = to_plain(Recipe())
    stages = {"a": StageConfig(), "b": StageConfig(), "mix": StageConfig()}
    recipe["stages"] = to_plain(stages)
    recipe["data"]["corpus"] = "jsonl:home.jsonl"
    recipe["stages"]["a"]["soft_labels"]["models"] = ["bm25", "model:owner/strong@" + "1" * 40]
    recipe["stages"]["mix"]["soup"]["members"] = ["stage:a", "stage:b"]
    for stage in stages:
        write_artifact(tmp_path / stage, stage, recipe, {"kind": "teacher"})
    found = trace_training([f"model:{tmp_path / 'mix'}"])
    assert found == Training({"jsonl:home.jsonl"}, {HUB_ID, "owner/strong"}, set())


def registry(**known) -> SimpleNamespace:
    return SimpleNamespace(
        get_model_meta=lambda name: SimpleNamespace(training_datasets=known[name.replace("/", "_")])
    )


def test_datasets_are_disclosed_only_where_the_list_is_complete():
    training = Training({"beir:x/scifact", "jsonl:mine.jsonl", ""}, {"owner/start"})
    assert disclosed_datasets(training, registry(owner_start={"MSMARCO"})) == {
        "SciFact",
        "mine",
        "MSMARCO",
    }
    assert disclosed_datasets(training, registry(owner_start=None)) is None
    assert disclosed_datasets(training, registry()) is None
    assert (
        disclosed_datasets(Training({"beir:x/scifact"}, unknown={"endpoint:x"}), registry()) is None
    )
    assert disclosed_datasets(Training(), registry()) == set()


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mteb:MIRACLRetrieval:fr@dev", "MIRACLRetrieval"),
        ("beir:/data/NFCorpus", "NFCorpus"),
        ("beir:/data/own", "own"),
        ("jsonl:a/b.jsonl", "b"),
        ("hf:owner/name:config@train", "owner/name"),
        ("builtin:pydocs", "builtin:pydocs"),
    ],
)
def test_names_of_datasets(source, name):
    assert dataset_name(source) == name


def test_beir_s_folders_are_named_as_mteb_names_its_tasks():
    mteb = pytest.importorskip("mteb", reason=mteb_task.MISSING)
    for name in BEIR_NAMES.values():
        assert mteb.get_task(name).metadata.type == "Retrieval"


def test_mteb_is_told_what_the_artifact_says(tmp_path):
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    student, teacher = make_artifacts(tmp_path)
    models = [
        TransformerEmbedder(read_encoder(folder), torch.device("cpu"), torch.float32)
        for folder in (student, teacher)
    ]
    meta = describe(models[:1], "tiny-student", [f"model:{student}"], 64)
    assert (meta.name, meta.revision) == ("leafkit/tiny-student", models[0].fingerprint)
    assert meta.n_parameters == models[0].encoder.num_parameters()
    assert meta.n_active_parameters < meta.n_parameters
    assert meta.memory_usage_mb == pytest.approx(4 * meta.n_parameters / 2**20, abs=0.1)
    assert (meta.embed_dim, meta.max_tokens, meta.similarity_fn_name.value) == (
        [32, 16],
        64,
        "cosine",
    )
    assert (meta.use_instructions, meta.open_weights, meta.model_type) == (True, True, ["dense"])
    # and those of all-MiniLM-L6-v2
    assert {
        "NFCorpus",
        "NQ",
        "mine",
        "owner/set",
        "builtin:pydocs",
    } < meta.training_datasets
    assert meta.adapted_from == HUB_ID
    both = describe(models, "own/pair", [f"model:{student}", f"model:{teacher}"], 64)
    assert (both.name, both.model_type, both.n_parameters) == (
        "own/pair",
        ["router"],
        2 * meta.n_parameters,
    )
    assert both.revision not in {m.fingerprint for m in models}
    assert describe(models[:1], "unknown", [], 64).training_datasets is None
    assert both.to_dict()["embed_dim"] == 32


def test_a_model_of_which_only_vectors_are_known_has_no_counts():
    pytest.importorskip("mteb", reason=mteb_task.MISSING)
    inner = TransformerEmbedder(
        tiny.make_encoder(normalized=False), torch.device("cpu"), torch.float32
    )
    model = SimpleNamespace(
        fingerprint="f",
        dim=32,
        mrl_dims=(),
        encoder=None,
        prompt=lambda role: "",
        space=inner.space,
    )
    meta = describe([model], "remote", ["endpoint:remote"], 64)
    assert (meta.n_parameters, meta.memory_usage_mb, meta.open_weights, meta.framework) == (
        None,
        None,
        None,
        [],
    )
    assert (meta.embed_dim, meta.similarity_fn_name.value, meta.training_datasets) == (
        32,
        "dot",
        None,
    )
