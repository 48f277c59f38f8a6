"""Model folders: they come back as they were, load in sentence-transformers, and refuse what would
give other vectors.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models import checkpoint
from leafkit.models.checkpoint import identify_model, load_encoder, read_encoder, write_encoder
from leafkit.models.folder import fingerprint_of_folder, read_space

TEXTS = [
    "Compute the matrix",
    "",
    "read the queue backwards and split the string by the first value of a table column",
    "a",
]
PROMPTS = {"query": "find the answer : ", "document": "table : "}


def vectors(encoder, role: str) -> torch.Tensor:
    with torch.no_grad():
        return encoder.finish(encoder(encoder.tokenize(TEXTS, role)))


@pytest.fixture
def folder(tmp_path) -> Path:
    return tiny.write_model(tmp_path / "model", dim=48, prompts=PROMPTS, mrl_dims=(48, 16))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize(("dim", "normalized"), [(0, True), (48, True), (48, False)])
def test_a_written_encoder_comes_back_equal(tmp_path, pooling, dim, normalized):
    encoder = tiny.make_encoder(
        pooling=pooling, dim=dim, normalized=normalized, prompts=PROMPTS, mrl_dims=(16, 8)
    )
    write_encoder(encoder, tmp_path / "m", {"kind": "teacher"})
    found = read_encoder(tmp_path / "m")
    assert found.spec == encoder.spec
    assert not found.training
    for role in ("query", "document"):
        assert torch.equal(vectors(found, role), vectors(encoder, role))
    assert read_space(tmp_path / "m") == {
        "kind": "teacher",
        "pooling": pooling,
        "attention": "",
        "similarity": "cosine" if normalized else "dot",
        "prompts": PROMPTS,
        "templates": {},
    }


def test_a_projection_without_bias_comes_back_without(tmp_path):
    encoder = tiny.make_encoder(dim=48, bias=False)
    write_encoder(encoder, tmp_path / "m", {})
    found = read_encoder(tmp_path / "m")
    assert found.projection.bias is None
    assert torch.equal(vectors(found, "query"), vectors(encoder, "query"))


def test_weights_trained_in_bf16_are_written_in_float32(tmp_path):
    encoder = tiny.make_encoder(dim=48)
    encoder.projection.to(torch.bfloat16)
    write_encoder(encoder, tmp_path / "m", {})
    assert (
        load_file(tmp_path / "m" / "2_Dense" / "model.safetensors")["linear.weight"].dtype
        == torch.float32
    )


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("dim", [0, 48])
def test_it_loads_in_sentence_transformers_with_the_same_vectors(tmp_path, pooling, dim):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = tiny.write_model(tmp_path / "m", pooling=pooling, dim=dim, prompts=PROMPTS)
    mine, theirs = (
        read_encoder(folder),
        sentence_transformers.SentenceTransformer(str(folder), device="cpu"),
    )
    assert theirs.max_seq_length == mine.spec.max_tokens
    by_method = {"query": theirs.encode_query(TEXTS), "document": theirs.encode_document(TEXTS)}
    for role, method in by_method.items():
        expected = vectors(mine, role)
        for got in (method, theirs.encode(TEXTS, prompt_name=role)):
            assert float((expected * torch.from_numpy(got)).sum(dim=1).min()) >= 1 - 1e-6
    assert not torch.allclose(vectors(mine, "query"), vectors(mine, "document"), atol=1e-3)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("max_tokens", [128, 12])
def test_the_layout_of_newer_sentence_transformers_is_read(tmp_path, pooling, max_tokens):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = tiny.with_spec(
        tiny.make_encoder(pooling=pooling, dim=48, prompts=PROMPTS), max_tokens=max_tokens
    )
    write_encoder(encoder, tmp_path / "old", {})
    sentence_transformers.SentenceTransformer(str(tmp_path / "old"), device="cpu").save(
        str(tmp_path / "new")
    )
    assert (
        "pooling_mode_mean_tokens"
        not in (tmp_path / "new" / "1_Pooling" / "config.json").read_text()
    )
    found = read_encoder(tmp_path / "new")
    assert (found.spec.pooling, found.spec.prompts, found.spec.max_tokens) == (
        pooling,
        PROMPTS,
        max_tokens,
    )
    for role in ("query", "document"):
        assert torch.allclose(vectors(found, role), vectors(encoder, role), atol=1e-6)


def test_the_legacy_layout_is_written(folder):
    """text-embeddings-inference refuses the newer one and vLLM has pooled it wrongly."""
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["pooling_mode_mean_tokens"] is True
    assert [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value] == [
        "pooling_mode_mean_tokens"
    ]
    assert pooling["word_embedding_dimension"] == 32
    modules = json.loads((folder / "modules.json").read_text())
    assert [(m["idx"], m["path"], m["type"]) for m in modules] == [
        (0, "", "sentence_transformers.models.Transformer"),
        (1, "1_Pooling", "sentence_transformers.models.Pooling"),
        (2, "2_Dense", "sentence_transformers.models.Dense"),
        (3, "3_Normalize", "sentence_transformers.models.Normalize"),
    ]
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == 128
    assert set(load_file(folder / "2_Dense" / "model.safetensors")) == {
        "linear.weight",
        "linear.bias",
    }


def test_matryoshka_dimensions_stand_in_the_config(folder):
    """vLLM serves shortened vectors only for models whose config.json lists their dimensions."""
    assert json.loads((folder / "config.json").read_text())["matryoshka_dimensions"] == [48, 16]
    assert read_encoder(folder).spec.mrl_dims == (48, 16)


def test_nothing_but_safetensors_and_text_is_written(folder):
    suffixes = {p.suffix for p in folder.rglob("*") if p.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt"}


def test_a_bare_transformer_is_mean_pooled_and_normalized(tmp_path):
    encoder = tiny.make_encoder()
    encoder.backbone.save_pretrained(tmp_path)
    encoder.tokenizer.save_pretrained(tmp_path)
    found = read_encoder(tmp_path)
    assert (found.spec.pooling, found.spec.normalized, found.projection) == ("mean", True, None)
    assert torch.equal(vectors(found, "query"), vectors(encoder, "query"))


def test_the_fingerprint_follows_weights_and_prompts_but_not_the_manifest(folder):
    first = fingerprint_of_folder(folder)
    (folder / "manifest.json").write_text("{}")
    (folder / "losses.json").write_text("[1]")
    tiny.edit_json(folder / "leafkit.json", more=1)
    assert fingerprint_of_folder(folder) == first == read_encoder(folder).fingerprint
    tiny.edit_json(folder / "config_sentence_transformers.json", prompts={"query": "other"})
    second = fingerprint_of_folder(folder)
    weights = load_file(folder / "2_Dense" / "model.safetensors")
    save_file({k: v + 1 for k, v in weights.items()}, folder / "2_Dense" / "model.safetensors")
    assert len({first, second, fingerprint_of_folder(folder)}) == 3


def refused(folder: Path, match: str) -> LeafkitError:
    with pytest.raises(LeafkitError, match=match) as caught:
        read_encoder(folder)
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("model.safetensors", "cannot be loaded"),
        ("config.json", "config.json is missing"),
        ("1_Pooling/config.json", "1_Pooling/config.json is missing"),
        ("2_Dense/config.json", "2_Dense/config.json is missing"),
        ("2_Dense/model.safetensors", "the projection cannot be loaded"),
    ],
)
def test_a_missing_file_is_named(folder, name, match):
    (folder / name).unlink()
    refused(folder, match)


@pytest.mark.parametrize(
    "name",
    ["modules.json", "config.json", "1_Pooling/config.json", "config_sentence_transformers.json"],
)
def test_a_file_that_is_not_json_is_named(folder, name):
    (folder / name).write_text("{not json")
    refused(folder, f"{Path(name).name} is corrupt")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "[3]"])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
    ],
)
def test_a_file_that_holds_no_object_is_named(folder, name, content):
    (folder / name).write_text(content)
    refused(folder, f"{Path(name).name} is corrupt: it holds a")


@pytest.mark.parametrize(
    "content", ["3", "[3]", '[{"type": "sentence_transformers.models.Transformer"}]', "[]"]
)
def test_a_list_of_modules_that_is_none_is_named(folder, content):
    (folder / "modules.json").write_text(content)
    refused(folder, "modules.json")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_none_is_refused(folder, name):
    (folder / name).write_text("[3]")
    refused(folder, "cannot be loaded|tokenizer_config.json is corrupt")


@pytest.mark.parametrize("value", ["x", [1], -1, {"a": 1}])
def test_a_limit_that_is_no_number_of_tokens_is_refused(folder, value):
    tiny.edit_json(folder / "sentence_bert_config.json", max_seq_length=value)
    refused(folder, "max_seq_length .* is no number of tokens")


@pytest.mark.parametrize("key", ["in_features", "out_features"])
@pytest.mark.parametrize("value", [..., None, "x", -1, 0, True, [1]])
def test_a_projection_of_no_size_is_refused(folder, key, value):
    tiny.edit_json(folder / "2_Dense" / "config.json", **{key: value})
    refused(folder, "2_Dense/config.json is corrupt: it maps")


def test_a_default_prompt_that_is_no_name_is_refused(folder):
    tiny.edit_json(folder / "config_sentence_transformers.json", default_prompt_name=["query"])
    refused(folder, "default_prompt_name .* is not one of its prompts")


@pytest.mark.parametrize("name", ["model.safetensors", "2_Dense/model.safetensors"])
def test_truncated_weights_are_refused(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    refused(folder, "cannot be loaded")


def test_weights_that_lack_a_tensor_are_refused(folder):
    """transformers would fill it with random numbers and say so in a warning."""
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"lacks .*encoder\.layer\.1\.output\.dense\.weight")


def test_a_projection_of_another_shape_is_refused(folder):
    tiny.edit_json(folder / "2_Dense" / "config.json", out_features=64)
    refused(folder, "the projection cannot be loaded")


def test_a_dense_module_with_an_activation_is_refused(folder):
    tiny.edit_json(
        folder / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh"
    )
    refused(folder, "activation Tanh is not linear")


def test_a_module_that_is_not_stock_is_refused(folder):
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "my_package.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, r"code of its own \(modules\.json: my_package\.Pooling\), .* not trusted")
    modules[1]["type"] = "sentence_transformers.models.WeightedLayerPooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, "WeightedLayerPooling is not one of")


def test_a_second_projection_that_is_not_there_is_named(folder):
    """Reading only one of them would give vectors of another space."""
    modules = json.loads((folder / "modules.json").read_text())
    modules.insert(3, modules[2] | {"path": "3_Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, r"3_Dense/config\.json is missing")


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode_cls_token": True},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode": "max"},
        {"pooling_mode": ["mean", "max"]},
    ],
)
def test_poolings_that_are_not_exactly_one_known_are_refused(folder, changes):
    tiny.edit_json(folder / "1_Pooling" / "config.json", **changes)
    refused(folder, "pooling is not exactly one of mean, cls, last")


def test_pooling_that_leaves_the_prompt_out_is_refused(folder):
    """Instructor-style pooling averages the text's tokens alone: other vectors than ours."""
    tiny.edit_json(folder / "1_Pooling" / "config.json", include_prompt=False)
    refused(folder, "leaves the prompt")


def test_a_folder_without_a_model_is_refused(tmp_path):
    refused(tmp_path, "holds no model: neither modules.json nor config.json")


def test_a_folder_that_leafkit_did_not_write_has_no_space(folder):
    (folder / "leafkit.json").unlink()
    with pytest.raises(LeafkitError, match=r"leafkit\.json is missing"):
        read_space(folder)


def test_a_reference_is_read_from_its_folder(folder):
    assert load_encoder(f"model:{folder}").fingerprint == fingerprint_of_folder(folder)


@pytest.mark.parametrize(
    ("reference", "revision", "match"),
    [
        ("minilm", "", "unknown model 'minilm'"),
        ("builtin:bert", "", "unknown model 'builtin:bert'"),
        ("model:", "", "unknown model 'model:'"),
        ("model:/no/such/folder", "", "no such folder, and not a hub id"),
        ("model:../a", "", "no such folder, and not a hub id"),
        ("model:owner/name", "", "a hub model needs its revision"),
        ("model:owner/name", "main", "a hub model needs its revision"),
        ("model:owner/name", "A" * 40, "a hub model needs its revision"),
    ],
)
def test_references_that_name_no_fixed_model_are_usage_errors(reference, revision, match):
    with pytest.raises(UsageError, match=match) as caught:
        load_encoder(reference, revision)
    assert caught.value.hint


def test_a_pinned_hub_model_is_asked_for_at_its_revision(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "leafkit.models.checkpoint.download", lambda *words: asked.append(words) or folder
    )
    load_encoder("model:owner/name", "0" * 40)
    assert asked == [("owner/name", "0" * 40, False)]


def test_a_reference_carries_its_own_revision(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(
        checkpoint,
        "download",
        lambda name, revision, _: asked.append((name, revision)) or folder,
    )
    load_encoder(f"model:owner/name@{'a' * 40}", revision="b" * 40)
    assert asked == [("owner/name", "a" * 40)]


def test_a_local_models_identity_is_its_content(folder):
    before = identify_model(f"model:{folder}")
    assert before == identify_model(f"model:{folder}")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "another : "}})
    )
    assert identify_model(f"model:{folder}") != before
    assert identify_model("builtin:minilm") == "builtin:minilm"
