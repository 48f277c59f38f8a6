"""The exported graph against the model, transformers' tokenizer, and everything that can be wrong
with its files.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import make_encoder

pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
pytest.importorskip("onnxscript", reason='needs pip install "leafkit[onnx]"')

from leafkit.core.checkpoint_layout import (
    GRAPH_ABOUT_FILE,
    GRAPH_FILE,
    GRAPH_TOKENIZER_FILE,
    INT8_GRAPH_FILE,
)
from leafkit.core.errors import LeafkitError
from leafkit.embedders.onnx_graph import (
    OnnxGraphEmbedder,
    describe_session,
)
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters import onnx_export as graph_module
from leafkit.exporters.onnx_export import export_graph
from leafkit.models.checkpoint import load_encoder
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

TEXTS = [
    "",
    "a",
    "how do I invert a sparse matrix",
    "Wörld " * 200,
    "matrix inverse " * 7,
    "x\u0000y",
    "矩阵求逆",
]


def with_projection(encoder, dim=24, **spec):
    torch.manual_seed(1)
    base = encoder.spec
    fields = {
        "pooling": base.pooling,
        "prompts": {"query": "ask: "},
        "max_tokens": 32,
        "mrl_dims": (24, 8),
    } | spec
    linear = torch.nn.Linear(encoder.hidden_size, dim)
    return TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        EncoderSpec(**fields),
        linear,
        fingerprint="the-student",
    ).eval()


@pytest.fixture(scope="module")
def encoder():
    return with_projection(make_encoder())


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    return folder, export_graph(encoder, folder, TEXTS)


def of_model(encoder, texts=TEXTS, role="query", limit=32):
    return TransformerEmbedder(encoder, torch.device("cpu"), torch.float32).embed(
        texts, role, limit
    )


@pytest.mark.parametrize("role", ["query", "document"])
def test_lengths_are_those_that_nobody_cuts(encoder, exported, role):
    graph = OnnxGraphEmbedder(exported[0])
    texts = [*TEXTS, "", "compute the matrix " * 300]
    before = graph.embed(texts, role, 32)
    assert graph.count_uncut(texts, role) == encoder.count_uncut(texts, role)
    assert max(graph.count_uncut(texts, role)) > 900
    np.testing.assert_array_equal(graph.embed(texts, role, 32), before)


def test_the_float32_graph_gives_the_models_vectors(encoder, exported):
    folder, cosines = exported
    assert cosines["float32"] > 1 - 1e-6
    graph = OnnxGraphEmbedder(folder, num_threads=2)
    assert describe_session(graph) == ("float32", 2)
    np.testing.assert_allclose(graph.embed(TEXTS, "query", 32), of_model(encoder), atol=1e-5)
    for text, expected in zip(TEXTS, of_model(encoder), strict=True):
        np.testing.assert_allclose(graph.embed_one(text), expected, atol=1e-5)


def test_the_prompt_belongs_to_queries_alone(encoder, exported):
    graph = OnnxGraphEmbedder(exported[0])
    documents = graph.embed(TEXTS, "document", 32)
    np.testing.assert_allclose(documents, of_model(encoder, role="document"), atol=1e-5)
    assert np.abs(documents - graph.embed(TEXTS, "query", 32)).max() > 1e-3


@pytest.mark.parametrize("limit", [7, 9, 32, 1000])
def test_texts_are_cut_where_the_model_cuts_them_in_any_order(encoder, exported, limit):
    graph = OnnxGraphEmbedder(exported[0])
    graph.embed(TEXTS, "query", 8)
    np.testing.assert_allclose(
        graph.embed(TEXTS, "query", limit), of_model(encoder, limit=limit), atol=1e-5
    )


def test_int8_is_near_and_independent_of_the_other_texts(exported):
    folder, cosines = exported
    assert 0.9 < cosines["int8"] <= 1
    graph = OnnxGraphEmbedder(folder, "int8", 1)
    assert describe_session(graph) == ("int8", 1)
    together = graph.embed(TEXTS, "query", 32)
    assert np.array_equal(together[2], graph.embed_one(TEXTS[2]))
    assert (folder / INT8_GRAPH_FILE).stat().st_size < (folder / GRAPH_FILE).stat().st_size


def test_it_is_a_vector_model_of_the_students_space(encoder, exported):
    graph, model = (
        OnnxGraphEmbedder(exported[0]),
        TransformerEmbedder(encoder, torch.device("cpu"), torch.float32),
    )
    assert graph.space("query", 20) == model.space("query", 20)
    assert (graph.dim, graph.mrl_dims, graph.prompt("document")) == (model.dim, model.mrl_dims, "")


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["cls", "last"])
@pytest.mark.parametrize("architecture", ["bert", "qwen2"])
def test_other_poolings_and_decoders(pooling, architecture, tmp_path):
    encoder = with_projection(
        load_encoder(f"tiny:{architecture}"), pooling=pooling, normalized=False
    )
    assert export_graph(encoder, tmp_path, TEXTS, int8=False)["float32"] > 1 - 1e-6
    np.testing.assert_allclose(
        OnnxGraphEmbedder(tmp_path).embed(TEXTS, "query", 32),
        of_model(encoder),
        atol=1e-4,
        rtol=1e-4,
    )


def test_a_graph_that_gives_other_vectors_is_refused(encoder, exported, monkeypatch):
    embed = OnnxGraphEmbedder.embed
    monkeypatch.setattr(OnnxGraphEmbedder, "embed", lambda *args: embed(*args) + np.float32(2e-4))
    with pytest.raises(LeafkitError, match=r"differ from the model.s by up to 0\.0002"):
        graph_module._compare(encoder, exported[0], TEXTS, int8=False)


@pytest.mark.parametrize(
    "name", [GRAPH_FILE, INT8_GRAPH_FILE, GRAPH_TOKENIZER_FILE, GRAPH_ABOUT_FILE]
)
@pytest.mark.parametrize("damage", ["gone", "cut", "foreign"])
def test_damaged_folders_are_refused_by_name(exported, tmp_path, name, damage):
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / name
    if damage == "gone":
        target.unlink()
    else:
        target.write_bytes(target.read_bytes()[:100] if damage == "cut" else b'{"a": 1}')
    with pytest.raises(LeafkitError) as caught:
        OnnxGraphEmbedder(tmp_path, "int8" if name == INT8_GRAPH_FILE else "float32")
    assert str(tmp_path) in str(caught.value)
    assert "leafkit export" in caught.value.hint


def test_another_dimension_than_promised_is_refused(exported, tmp_path):
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    about = json.loads((tmp_path / GRAPH_ABOUT_FILE).read_text())
    (tmp_path / GRAPH_ABOUT_FILE).write_text(json.dumps(about | {"dim": 23}))
    with pytest.raises(LeafkitError, match="another dimension than 23"):
        OnnxGraphEmbedder(tmp_path)


def test_onnxruntimes_own_attention_gives_the_models_vectors_padding_and_all(
    encoder, exported, tmp_path
):
    for path in exported[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    graph_module._write_graph(encoder, tmp_path / GRAPH_FILE, for_onnxruntime=True)
    graph = OnnxGraphEmbedder(tmp_path)
    np.testing.assert_allclose(graph.embed(TEXTS, "query", 32), of_model(encoder), atol=1e-5)
    np.testing.assert_allclose(graph.embed_one(TEXTS[2]), of_model(encoder)[2], atol=1e-5)


def test_only_the_int8_graph_needs_onnxruntimes_own_operators(exported):
    import onnx

    domains = [
        {node.domain for node in onnx.load(str(exported[0] / name)).graph.node}
        for name in (GRAPH_FILE, INT8_GRAPH_FILE)
    ]
    assert domains == [{""}, {"", "com.microsoft"}]
    kinds = {node.op_type for node in onnx.load(str(exported[0] / INT8_GRAPH_FILE)).graph.node}
    assert kinds >= {"QAttention", "MatMulInteger"}
    assert not kinds & {"MatMul", "Gemm", "Attention"}, "a product left in float32"
