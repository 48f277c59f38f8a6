"""Heads of two layers: their equation, their two Dense modules here and in sentence-transformers,
as a graph, and what is refused.
"""

from __future__ import annotations

import json
import math

import numpy as np
import packed_case
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from leafkit.core.errors import LeafkitError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.hub import export_hub
from leafkit.exporters.onnx_export import export_graph
from leafkit.exporters.source import ExportSource
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.heads.two_layer import (
    TwoLayerHead,
    from_dense,
    head_rank,
    linear_part,
    to_dense,
)
from leafkit.models.prune_layers import prune_layers
from leafkit.models.text_encoder import EncoderSpec, TextEncoder

TEXTS = ["Compute the matrix", "", "read the queue backwards and split the string", "a"]


def make_head(width=32, hidden=24, dim=40, *, bias=True, seed=5) -> TwoLayerHead:
    """A head whose second layer gives as much as its linear part."""
    torch.manual_seed(seed)
    head = TwoLayerHead(width, hidden, dim, bias=bias)
    with torch.no_grad():
        head.inner.weight.mul_(8)
        head.outer.weight.normal_()
    return head


def with_head(encoder=None, head=None, layers=(), **spec) -> TextEncoder:
    encoder = encoder or tiny.make_encoder()
    head = head or make_head(32 * max(1, len(layers)))
    fields = {"max_tokens": 64, "head_layers": tuple(layers)} | spec
    made = TextEncoder(encoder.backbone, encoder.tokenizer, EncoderSpec(**fields), head)
    made.disable_dropout()
    return made.eval()


def vectors(encoder, texts=TEXTS) -> np.ndarray:
    return tiny.vectors_of(encoder, texts)


def test_its_equation_by_hand():
    head = TwoLayerHead(2, 1, 2)
    with torch.no_grad():
        head.linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        head.linear.bias.copy_(torch.tensor([0.5, 0.0]))
        head.inner.weight.copy_(torch.tensor([[3.0, -1.0]]))
        head.inner.bias.copy_(torch.tensor([1.0]))
        head.outer.weight.copy_(torch.tensor([[2.0], [-4.0]]))
    # x = (1, 2): W x + b = (5.5, -2); W1 x + b1 = 2; gelu(2) = 2 cdf(2) = 1.9545
    bent = 2 * 0.5 * (1 + math.erf(2 / math.sqrt(2)))
    expected = torch.tensor([[5.5 + 2 * bent, -2 - 4 * bent]])
    torch.testing.assert_close(head(torch.tensor([[1.0, 2.0]])), expected)
    assert bent == pytest.approx(1.9545, abs=1e-4)


def test_it_begins_as_its_linear_part():
    torch.manual_seed(0)
    head, states = TwoLayerHead(6, 9, 4), torch.randn(50, 6)
    head.spread(states)
    assert torch.equal(head(states), head.linear(states))
    assert (linear_part(head), linear_part(head.linear)) == (head.linear, head.linear)


def test_texts_enter_the_gelus_with_mean_0_and_variance_1():
    torch.manual_seed(0)
    head, states = TwoLayerHead(6, 9, 4), 3 + 0.01 * torch.randn(500, 6)
    head.spread(states)
    entering = head.inner(states)
    torch.testing.assert_close(entering.mean(0), torch.zeros(9), atol=1e-3, rtol=0)
    torch.testing.assert_close(entering.std(0, correction=0), torch.ones(9), atol=1e-3, rtol=0)
    head.spread(torch.ones(5, 6))  # texts that are all alike
    assert bool(torch.isfinite(head.inner.weight).all())


def test_the_rank_of_what_it_gives():
    assert head_rank(make_head(6, 9, 40).linear) == 6
    assert head_rank(make_head(6, 9, 40)) == 15
    assert head_rank(make_head(6, 9, 7)) == 7
    given = make_head(6, 9, 40)(torch.randn(300, 6))
    centred = (given - given.mean(0)).detach().double()
    assert int(torch.linalg.matrix_rank(centred, rtol=1e-5)) == 15


@pytest.mark.parametrize("bias", [True, False])
def test_two_dense_modules_give_its_vectors(bias):
    head, states = make_head(bias=bias), torch.randn(200, 32) * torch.logspace(-4, 3, 200)[:, None]
    first, second = to_dense(head)
    found = second(nn.functional.gelu(first(states)))
    lengths = head(states).norm(dim=1, keepdim=True)
    torch.testing.assert_close(found / lengths, head(states) / lengths, atol=1e-5, rtol=0)
    again = from_dense(first, second)
    assert again is not None
    for name, value in head.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_other_pairs_of_maps_are_no_such_head():
    first, second = to_dense(make_head())
    assert from_dense(nn.Linear(32, 88), second) is None
    assert from_dense(first, nn.Linear(88, 40)) is None
    assert from_dense(first, nn.Linear(80, 40)) is None
    assert from_dense(nn.Linear(32, 64), nn.Linear(64, 40)) is None
    with torch.no_grad():
        first.bias[3] = 0.1
    assert from_dense(first, second) is None


@pytest.mark.parametrize("kind", packed_case.KINDS)
def test_it_reads_the_pooled_vector_packed_and_padded(kind, monkeypatch):
    encoder = with_head(packed_case.make(kind))
    ids = packed_case.token_ids()
    results = []
    for _ in packed_case.packed_then_padded(monkeypatch):
        encoder.zero_grad()
        raw = encoder(ids)
        raw.square().sum().backward()
        results.append((raw.detach(), [p.grad.clone() for p in encoder.projection.parameters()]))
    (packed, first), (padded, second) = results
    torch.testing.assert_close(packed, padded, atol=1e-3, rtol=1e-3)
    for one, other in zip(first, second, strict=True):
        assert bool(one.any())
        torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-3)
    with torch.no_grad():
        hidden = encoder.backbone(torch.tensor([ids[0]])).last_hidden_state[0]
        torch.testing.assert_close(
            packed[0], encoder.projection(hidden.mean(0)), atol=1e-3, rtol=1e-3
        )
        # what a linear head alone may do
        assert not torch.allclose(packed[0], encoder.projection(hidden).mean(0), atol=1e-2)


@pytest.mark.parametrize(
    ("layers", "bias", "pooling", "normalized"),
    [
        ((), True, "mean", True),
        ((), False, "cls", True),
        ((), True, "last", False),
        ((0, 2), True, "mean", True),
    ],
)
def test_it_is_saved_and_loaded(tmp_path, layers, bias, pooling, normalized):
    head = make_head(32 * max(1, len(layers)), bias=bias)
    encoder = with_head(head=head, layers=layers, pooling=pooling, normalized=normalized)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    again = read_encoder(tmp_path)
    assert isinstance(again.projection, TwoLayerHead)
    assert (again.spec, again.dim, again.hidden_size) == (encoder.spec, 40, encoder.hidden_size)
    assert again.num_parameters() == encoder.num_parameters()
    np.testing.assert_array_equal(vectors(again), vectors(encoder))
    names = [module["path"] for module in json.loads((tmp_path / "modules.json").read_text())]
    assert names == ["", "1_Pooling", "2_Dense", "3_Dense", *["4_Normalize"] * normalized]
    if normalized:
        in_bf16 = TransformerEmbedder(again, torch.device("cpu"), torch.bfloat16)
        assert (in_bf16.embed(TEXTS, "query", 64) * vectors(encoder)).sum(1).min() > 0.99


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_gives_the_same_vectors(tmp_path, pooling):
    library = pytest.importorskip(
        "sentence_transformers", reason="sentence-transformers is not installed"
    )
    encoder = with_head(pooling=pooling, prompts={"query": tiny.PROMPT})
    space = {"kind": "student", "teacher": "abc"}
    assert export_hub(ExportSource(encoder, space), tmp_path)["hub"] >= 1 - 1e-6
    model = library.SentenceTransformer(str(tmp_path), device="cpu")
    theirs = model.encode_query(TEXTS)
    assert np.einsum("nd,nd->n", vectors(encoder), theirs).min() > 1 - 1e-6
    # the second layer has its part in them
    linear = with_head(encoder, linear_part(encoder.projection), pooling=pooling)
    assert np.einsum("nd,nd->n", vectors(linear), theirs).max() < 0.99


@pytest.mark.slow
def test_the_graph_holds_it(tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    cosines = export_graph(with_head(), tmp_path, TEXTS)
    assert cosines["float32"] > 1 - 1e-6
    assert cosines["int8"] > 0.98


def test_what_is_pruned_keeps_it():
    pruned = prune_layers(with_head(), "1")
    assert isinstance(pruned.projection, TwoLayerHead)
    assert pruned.projection.outer.weight.any()


def test_a_damaged_folder_is_refused(tmp_path):
    write_encoder(with_head(), tmp_path, {"kind": "student"})
    file = tmp_path / "2_Dense" / "model.safetensors"
    weights = load_file(file)
    weights["linear.weight"][0, 1] = 0.5
    save_file(weights, file)
    with pytest.raises(NotStock, match="2_Dense: a Dense module with activation GELU"):
        read_encoder(tmp_path)
    config = tmp_path / "3_Dense" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_features": 7}))
    with pytest.raises(LeafkitError, match="3_Dense"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("2_Dense", {"activation_function": "torch.nn.modules.activation.Tanh"}),
        ("2_Dense", {"use_residual": True}),
        ("3_Dense", {"activation_function": "torch.nn.modules.activation.GELU"}),
    ],
)
def test_other_dense_modules_are_left_to_their_library(tmp_path, file, changes):
    write_encoder(with_head(), tmp_path, {"kind": "student"})
    config = tmp_path / file / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(NotStock, match=f"{file}: a Dense module with activation"):
        read_encoder(tmp_path)
