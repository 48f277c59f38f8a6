"""One graph for nearly every runtime against the model, and its folder against the readers of those
that are not installed here.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tiny
import torch
from foreign_readers import fastembed_vectors, tei_problems

pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
pytest.importorskip("onnxscript", reason='needs pip install "leafkit[onnx]"')
import onnxruntime

from leafkit.core.errors import LeafkitError
from leafkit.exporters import onnx_export, token_graph
from leafkit.exporters.hub import export_hub
from leafkit.exporters.source import PROBES, ExportSource
from leafkit.exporters.token_graph import (
    check_token_graph,
    compare_graph,
    export_token_graph,
    why_vector_alone,
    write_token_graph,
)
from leafkit.models.heads.two_layer import TwoLayerHead
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

SPACE = {"kind": "student", "teacher": "abc", "teacher_reference": "model:owner/teacher@1"}
PROMPTS = {"query": tiny.PROMPT}
TEXTS = ["draw the matrix", "a", "sort , then read the calendar and the currency of a cluster"]
LIMIT = 40


def encoder_of(pooling: str = "mean", normalized: bool = True):
    encoder = tiny.make_encoder(
        dim=24, prompts=PROMPTS, pooling=pooling, normalized=normalized, mrl_dims=(24, 8)
    )
    return tiny.with_spec(encoder, max_tokens=LIMIT)


def own_vectors(encoder, texts=TEXTS) -> np.ndarray:
    with torch.inference_mode():
        return encoder.finish(encoder(encoder.tokenize(list(texts), "query"))).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    encoder = encoder_of()
    source = ExportSource(encoder, SPACE, name="mini", license="apache-2.0")
    return encoder, folder, export_token_graph(source, folder)


def run(path, ids: list[list[int]]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path))
    width = max(map(len, ids))
    batch = np.array([one + [0] * (width - len(one)) for one in ids], dtype=np.int64)
    mask = np.array([[1] * len(one) + [0] * (width - len(one)) for one in ids], dtype=np.int64)
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"input_ids": batch, "attention_mask": mask})
    return dict(zip(names, found, strict=True))


def test_both_outputs_give_the_models_vector_alone_and_padded(exported):
    encoder, folder, cosines = exported
    ids, expected = encoder.tokenize(TEXTS, "query"), own_vectors(encoder)
    together = run(folder / "onnx" / "model.onnx", ids)
    assert set(together) == {"last_hidden_state", "sentence_embedding"}
    assert together["last_hidden_state"].shape == (3, max(map(len, ids)), 24)
    np.testing.assert_allclose(together["sentence_embedding"], expected, atol=1e-5)
    for row, one in enumerate(ids):
        mean = together["last_hidden_state"][row, : len(one)].mean(0)
        np.testing.assert_allclose(mean / np.linalg.norm(mean), expected[row], atol=1e-5)
        alone = run(folder / "onnx" / "model.onnx", [one])["sentence_embedding"]
        np.testing.assert_allclose(alone[0], expected[row], atol=1e-5)
    assert cosines["float32"] >= 1 - 1e-6
    assert 0.9 < cosines["int8"] < cosines["float32"]


def test_both_graphs_keep_to_the_standard(exported):
    import onnx

    for name in ("model.onnx", "model_quantized.onnx"):
        graph = onnx.load(str(exported[1] / "onnx" / name)).graph
        assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    kinds = {node.op_type for node in graph.node}
    assert "MatMulInteger" in kinds
    sizes = [
        (exported[1] / "onnx" / n).stat().st_size for n in ("model.onnx", "model_quantized.onnx")
    ]
    assert sizes[1] < sizes[0]


def test_text_embeddings_inference_reads_the_folder_and_the_students(exported, tmp_path):
    encoder, folder, _ = exported
    assert tei_problems(folder, with_weights=False) == []
    export_hub(ExportSource(encoder, SPACE), tmp_path)
    assert tei_problems(tmp_path, with_weights=True) == []
    # the check is one: the student's folder is not for the ONNX backend
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes((folder / "onnx" / "model.onnx").read_bytes())
    assert tei_problems(tmp_path, with_weights=False) == ["its ONNX backend leaves Dense out"]


def test_fastembed_reads_the_folder_and_gives_the_models_vectors(exported):
    encoder, folder, _ = exported
    texts = [*TEXTS, "read the table and the queue of a socket " * 9]
    found = fastembed_vectors(folder, [tiny.PROMPT + text for text in texts], pooling="mean")
    cosines = np.einsum("nd,nd->n", found, own_vectors(encoder, texts))
    assert cosines.min() >= 1 - 1e-6


def test_the_files_beside_the_graphs_say_what_the_model_is(exported):
    encoder, folder, _ = exported
    read = {p.name: json.loads(p.read_text()) for p in folder.glob("*.json")}
    kinds = [module["type"].rpartition(".")[2] for module in read["modules.json"]]
    assert kinds == ["Transformer", "Pooling", "Normalize"]
    pooling = json.loads((folder / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == encoder.dim == 24
    told = read["config_sentence_transformers.json"]
    assert (told["prompts"]["query"], told["default_prompt_name"]) == (tiny.PROMPT, "query")
    assert read["tokenizer_config.json"]["model_max_length"] == LIMIT
    assert read["sentence_bert_config.json"]["max_seq_length"] == LIMIT
    assert read["config.json"]["matryoshka_dimensions"] == [24, 8]
    assert read["config.json"]["architectures"] == ["BertModel"]
    assert read["special_tokens_map.json"]["pad_token"] == "[PAD]"
    assert read["leafkit.json"]["teacher"] == "abc"
    assert not list(folder.glob("*.safetensors"))
    assert (folder / "LICENSE").is_file()


def test_the_card_states_what_int8_costs_and_its_code_gives_the_vector(exported):
    encoder, folder, cosines = exported
    card = (folder / "README.md").read_text()
    assert f"{cosines['int8']:.4f}" in card
    for tool in ("FastEmbed", "transformers.js", "text-embeddings-router", "last_hidden_state"):
        assert tool in card
    assert repr(tiny.PROMPT) in card
    code = re.search(r"```python\n(import numpy.*?)\n```", card, re.DOTALL)[1]
    found: dict[str, np.ndarray] = {}
    exec(code.replace("FOLDER_OF_THIS_MODEL", str(folder)), found)  # as a reader would
    expected = own_vectors(encoder, ["how do I invert a sparse matrix?"])[0]
    assert float(found["vector"] @ expected) >= cosines["int8"] - 0.05


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "why"),
    [("cls", "first token"), ("last", "last token"), ("two_layer", "not linear")],
)
def test_what_no_mean_gives_is_one_output_with_the_reason(kind, why, tmp_path):
    encoder = encoder_of("mean" if kind == "two_layer" else kind)
    if kind == "two_layer":
        torch.manual_seed(0)
        head = TwoLayerHead(32, 16, 24)
        torch.nn.init.normal_(head.outer.weight)
        encoder = TextEncoder(encoder.backbone, encoder.tokenizer, encoder.spec, head).eval()
    assert why in why_vector_alone(encoder)
    export_token_graph(ExportSource(encoder, SPACE), tmp_path)
    ids = encoder.tokenize(TEXTS, "query")
    found = run(tmp_path / "onnx" / "model.onnx", ids)
    assert set(found) == {"sentence_embedding"}
    np.testing.assert_allclose(found["sentence_embedding"], own_vectors(encoder), atol=1e-5)
    assert why in (tmp_path / "README.md").read_text()
    assert not (tmp_path / "modules.json").exists()
    texts = [tiny.PROMPT + text for text in TEXTS]
    theirs = fastembed_vectors(tmp_path, texts, pooling="disabled")
    assert np.einsum("nd,nd->n", theirs, own_vectors(encoder)).min() >= 1 - 1e-6


@pytest.mark.slow
def test_several_layers_and_vectors_of_any_length_commute_too(tmp_path):
    base = encoder_of(normalized=False)
    torch.manual_seed(0)
    spec = EncoderSpec("mean", False, PROMPTS, LIMIT, head_layers=(0, 2))
    encoder = TextEncoder(base.backbone, base.tokenizer, spec, torch.nn.Linear(64, 24)).eval()
    path = tmp_path / "onnx" / "model.onnx"
    write_token_graph(encoder, path)
    assert compare_graph(encoder, path, PROBES) >= 1 - 1e-6
    found = run(path, encoder.tokenize(TEXTS, "query"))["sentence_embedding"]
    np.testing.assert_allclose(found, own_vectors(encoder), atol=1e-4)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 0.1


@pytest.mark.parametrize(
    ("pooling", "dtype"), [("mean", "feature-extraction"), ("cls", "AutoModel")]
)
def test_an_int8_graph_far_from_the_model_is_left_out(
    pooling, dtype, exported, tmp_path, monkeypatch, capsys
):
    encoder = encoder_of(pooling)
    vectors_of = token_graph._vectors_alone

    def far(*args):
        found, expected = vectors_of(*args)
        return found + np.float32(0.2), expected

    monkeypatch.setattr(token_graph, "_vectors_alone", far)
    cosines = export_token_graph(ExportSource(encoder, SPACE, name="mini"), tmp_path)
    assert set(cosines) == {"float32"}
    assert {p.name for p in (tmp_path / "onnx").iterdir()} == {"model.onnx"}
    said = " ".join("".join(capsys.readouterr()).split())
    assert "mini: no onnx/model_quantized.onnx" in said
    card = (tmp_path / "README.md").read_text()
    assert "model_quantized" not in card
    assert "there is no int8 graph" in card
    assert "dtype: 'fp32'" in card
    assert dtype in card
    code = re.search(r"```python\n(import numpy.*?)\n```", card, re.DOTALL)[1]
    found: dict[str, np.ndarray] = {}
    exec(code.replace("FOLDER_OF_THIS_MODEL", str(tmp_path)), found)  # as a reader would
    expected = own_vectors(encoder, ["how do I invert a sparse matrix?"])[0]
    np.testing.assert_allclose(found["vector"], expected, atol=1e-5)


def test_a_graph_that_gives_other_vectors_is_refused(exported, monkeypatch):
    encoder, folder, _ = exported
    run_graph = token_graph._run

    def spoiled(session, ids):
        tokens, vectors = run_graph(session, ids)
        return [tokens + np.float32(0.1), vectors]

    monkeypatch.setattr(token_graph, "_run", spoiled)
    with pytest.raises(LeafkitError, match="vectors differ from the model's"):
        compare_graph(encoder, folder / "onnx" / "model.onnx", PROBES)


def test_what_does_not_fit_one_file_is_refused(monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST_BYTES", 1000)
    with pytest.raises(LeafkitError, match="one ONNX file holds two gigabytes"):
        check_token_graph(ExportSource(encoder_of(), SPACE))
