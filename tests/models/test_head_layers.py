"""Heads that read the states of several layers: the same vectors packed, padded, saved and loaded,
and nowhere others.
"""

from __future__ import annotations

import numpy as np
import packed_case
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.models import text_encoder
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.pooling import choose_head_layers, find_layer_fault
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

TEXTS = ["Compute the matrix", "", "read the queue backwards and split the string", "a"]


def with_head(encoder, layers, dim=24, bias=True, pooling="mean") -> TextEncoder:
    torch.manual_seed(5)
    width = encoder.backbone.config.hidden_size * len(layers)
    spec = EncoderSpec(pooling, max_tokens=64, head_layers=tuple(layers))
    projection = torch.nn.Linear(width, dim, bias=bias)
    head = TextEncoder(encoder.backbone, encoder.tokenizer, spec, projection)
    head.disable_dropout()
    return head.eval()


def vectors(encoder, texts=TEXTS) -> np.ndarray:
    return tiny.vectors_of(encoder, texts)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_states_of_several_layers_lie_side_by_side(pooling):
    encoder = with_head(tiny.make_encoder(), (0, 2), pooling=pooling)
    ids = packed_case.token_ids()
    found = encoder.pool(ids)
    assert found.shape == (len(ids), encoder.hidden_size) == (len(ids), 64)
    pool = {"mean": lambda x: x.mean(0), "cls": lambda x: x[0], "last": lambda x: x[-1]}[pooling]
    for row, text in zip(found, ids, strict=True):
        states = encoder.backbone(torch.tensor([text]), output_hidden_states=True).hidden_states
        expected = torch.cat([pool(states[layer][0]) for layer in (0, 2)])
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", packed_case.KINDS)
def test_packed_and_padded_states_and_gradients_are_equal(kind, monkeypatch):
    encoder = with_head(packed_case.make(kind), range(packed_case.NUM_LAYERS + 1))
    ids = packed_case.token_ids()
    results = []
    for is_packed in packed_case.packed_then_padded(monkeypatch):
        assert text_encoder.can_pack(encoder.backbone) == is_packed
        encoder.zero_grad()
        pooled = encoder.pool(ids)
        encoder.project(pooled).square().sum().backward()
        gradients = [p.grad for p in encoder.parameters()]
        assert all(g is not None and bool(g.any()) for g in gradients[-3:])
        results.append((pooled.detach(), [g.clone() for g in gradients if g is not None]))
    (packed, first), (padded, second) = results
    torch.testing.assert_close(packed, padded, atol=1e-4, rtol=1e-4)
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_the_last_layer_alone_is_as_it_was():
    plain = tiny.make_encoder(dim=24)
    ids = packed_case.token_ids()
    listed = TextEncoder(
        plain.backbone, plain.tokenizer, EncoderSpec(head_layers=(2,)), plain.projection
    )
    assert torch.equal(plain.pool(ids), listed.pool(ids))
    assert choose_head_layers("last", 2, "m") == ()
    assert choose_head_layers("2", 2, "m") == ()
    assert choose_head_layers("all", 2, "m") == (0, 1, 2)
    assert choose_head_layers("[1, 2]", 2, "m") == (1, 2)


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ((0, 3), "no layer 3: the model has 0 \\(its embeddings\\) to 2"),
        ((-1, 2), "no layer -1"),
        ((0, 1), "the last layer is not among 0, 1"),
        ((2, 0), "not in rising order"),
        ((2, 2), "not in rising order, each once"),
    ],
)
def test_layers_that_a_model_lacks_are_refused(layers, fault):
    encoder = tiny.make_encoder(dim=24)
    with pytest.raises(UsageError, match=fault) as caught:
        with_head(encoder, layers)
    assert caught.value.hint
    if min(layers) >= 0:
        with pytest.raises(UsageError, match=fault):
            choose_head_layers(",".join(map(str, layers)), 2, "m")
    assert find_layer_fault((0, 2), 2) == find_layer_fault((), 2) == ""


def test_several_layers_need_a_projection():
    plain = tiny.make_encoder()
    with pytest.raises(UsageError, match="need a projection"):
        TextEncoder(plain.backbone, plain.tokenizer, EncoderSpec(head_layers=(0, 2)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_it_is_saved_and_loaded(tmp_path, bias, pooling):
    encoder = with_head(tiny.make_encoder(), (0, 1, 2), bias=bias, pooling=pooling)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    again = read_encoder(tmp_path)
    assert again.spec.head_layers == (0, 1, 2)
    assert (again.hidden_size, again.dim) == (96, 24)
    assert (again.projection.bias is not None) == bias
    np.testing.assert_allclose(vectors(again), vectors(encoder), atol=1e-6)
    assert again.num_parameters() == encoder.num_parameters()
    in_bf16 = TransformerEmbedder(again, torch.device("cpu"), torch.bfloat16)
    cosines = (in_bf16.embed(TEXTS, "query", 64) * vectors(encoder)).sum(1)
    assert cosines.min() > 0.99


@pytest.mark.parametrize(
    ("file", "value", "match"),
    [
        ("2_Dense/config.json", ..., "last alone in 2_Dense/config.json and 0, 2 in leafkit.json"),
        ("2_Dense/config.json", [1, 2], "1, 2 in 2_Dense/config.json and 0, 2 in leafkit.json"),
        ("2_Dense/config.json", "all", "'all' is not a list of numbers"),
        ("2_Dense/config.json", [0, 1, 2], "and 0, 2 in leafkit.json"),
        ("2_Dense/config.json", [0, 7], "and 0, 2 in leafkit.json"),
        ("leafkit.json", [1, 2], "0, 2 in 2_Dense/config.json and 1, 2 in leafkit.json"),
        ("leafkit.json", ..., "and last alone in leafkit.json"),
        ("leafkit.json", 5, "and 5 in leafkit.json"),
    ],
)
def test_a_folder_whose_layers_were_changed_is_refused(tmp_path, file, value, match):
    write_encoder(with_head(tiny.make_encoder(), (0, 2)), tmp_path, {"kind": "student"})
    tiny.edit_json(tmp_path / file, head_layers=value)
    with pytest.raises(LeafkitError, match=match) as caught:
        read_encoder(tmp_path)
    assert caught.value.hint


def test_without_leafkits_file_the_width_is_still_checked(tmp_path):
    write_encoder(with_head(tiny.make_encoder(), (0, 2)), tmp_path, {"kind": "student"})
    tiny.edit_json(tmp_path / "2_Dense" / "config.json", head_layers=...)
    (tmp_path / "leafkit.json").unlink()
    with pytest.raises(LeafkitError, match="takes 64 dimensions, and the model gives 32"):
        read_encoder(tmp_path)


def test_a_folder_of_the_last_layer_names_no_layers(tmp_path):
    tiny.write_model(tmp_path, dim=24)
    assert "head_layers" not in (tmp_path / "leafkit.json").read_text()
    assert "head_layers" not in (tmp_path / "2_Dense" / "config.json").read_text()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_fails_instead_of_giving_other_vectors(tmp_path, pooling):
    st = pytest.importorskip("sentence_transformers")
    encoder = with_head(tiny.make_encoder(), (0, 2), pooling=pooling)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied .*32 and 64x24"):
        model.encode(TEXTS)


@pytest.mark.parametrize("bias", [True, False])
def test_a_head_of_the_last_layer_is_stock_with_and_without_bias(tmp_path, bias):
    st = pytest.importorskip("sentence_transformers")
    encoder = tiny.make_encoder(dim=24, bias=bias)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(model.encode(TEXTS), vectors(encoder), atol=1e-5)
    assert (model[2].linear.bias is not None) == bias


def test_the_hub_is_refused_before_anything_is_written(tmp_path):
    source = ExportSource(with_head(tiny.make_encoder(), (0, 2)))
    for to in (["hub"], ["onnx", "hub"]):
        with pytest.raises(LeafkitError, match="its head reads the layers 0, 2") as caught:
            write_targets(source, tmp_path / "out", to)
        assert "onnx" in caught.value.hint
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("kind", ["bert", "mpnet", "qwen2 causal"])
def test_what_is_exported_gives_the_models_vectors(kind, pooling):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    from leafkit.exporters.onnx_export import _ServedVector

    head = with_head(packed_case.make(kind), (0, 1, packed_case.NUM_LAYERS), pooling=pooling)
    ids = packed_case.token_ids((3, 7))
    padded = torch.tensor([[*text, *[0] * (7 - len(text))] for text in ids])
    mask = torch.tensor([[1] * 3 + [0] * 4, [1] * 7])
    with torch.no_grad():
        found = _ServedVector(head).eval()(padded, mask)
        torch.testing.assert_close(found, head.finish(head(ids)), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_one_graph_holds_the_head(tmp_path, kind):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "leafkit[onnx]"')
    from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
    from leafkit.exporters.onnx_export import export_graph

    start = tiny.make_encoder()
    if kind != "bert":
        backbone = packed_case.make_backbone(kind, vocab_size=len(start.tokenizer), positions=80)
        start = TextEncoder(backbone, start.tokenizer, EncoderSpec())
    layers = (0, 1, start.backbone.config.num_hidden_layers)
    encoder = with_head(start, layers, bias=kind == "bert")
    cosines = export_graph(encoder, tmp_path, TEXTS, int8=kind == "bert")
    assert cosines["float32"] > 1 - 1e-5
    found = OnnxGraphEmbedder(tmp_path).embed(TEXTS, "query", 64)
    np.testing.assert_allclose(found, vectors(encoder), atol=1e-4)
