"""A layer over tokens before the mean: packed and padded, saved and loaded, the same vectors in
sentence-transformers, in graphs, and refused where it does not fit.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import packed_case
import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.configure import configure
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.heads.token_layer import TokenLayer
from leafkit.models.heads.token_table import TokenTable
from leafkit.models.prune_layers import prune_layers
from leafkit.models.soup import soup
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.model_in_memory import identify_weights

TEXTS = ["Compute the matrix", "", "read the queue backwards and split the string", "a"]
UNITS, DIM = 20, 24


def with_layer(encoder, *, pooling="mean", units=UNITS, rank=0) -> TextEncoder:
    torch.manual_seed(5)
    width = encoder.backbone.config.hidden_size
    num_tokens = encoder.backbone.get_input_embeddings().weight.shape[0]
    table = TokenTable(torch.arange(40), torch.randn(40, rank), num_tokens) if rank else None
    made = TextEncoder(
        encoder.backbone,
        encoder.tokenizer,
        EncoderSpec(pooling, max_tokens=64),
        torch.nn.Linear(units + rank, DIM),
        token_table=table,
        token_layer=TokenLayer(torch.nn.Linear(width, units)),
    )
    made.disable_dropout()
    return made.eval()


def vectors(encoder) -> np.ndarray:
    return tiny.vectors_of(encoder, TEXTS)


def test_a_token_by_hand():
    linear = torch.nn.Linear(2, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]]))
        linear.bias.copy_(torch.tensor([0.0, 0.0, -4.0]))
    found = TokenLayer(linear)(torch.tensor([[[2.0, 1.0], [-3.0, 8.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]]]))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("kind", packed_case.KINDS)
def test_packed_and_padded_vectors_and_gradients_are_equal(kind, pooling, monkeypatch):
    encoder = with_layer(packed_case.make(kind), pooling=pooling)
    ids = packed_case.token_ids()
    results = []
    for _ in packed_case.packed_then_padded(monkeypatch):
        encoder.zero_grad()
        pooled = encoder.pool(ids)
        assert pooled.shape == (len(ids), UNITS) == (len(ids), encoder.hidden_size)
        assert pooled.min() >= 0
        encoder.project(pooled).square().sum().backward()
        gradient = encoder.token_layer.linear.weight.grad
        assert gradient is not None
        assert bool(gradient.any())
        results.append((pooled.detach(), gradient.clone()))
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", packed_case.KINDS)
def test_states_of_tokens_are_those_that_are_pooled(kind, monkeypatch):
    encoder = with_layer(packed_case.make(kind))
    ids = packed_case.token_ids()
    sums = []
    for _ in packed_case.packed_then_padded(monkeypatch):
        with torch.no_grad():
            tokens, states = encoder.token_states(ids)
        assert sorted(tokens.tolist()) == sorted(token for text in ids for token in text)
        counts = torch.zeros(int(tokens.max()) + 1, states.shape[1])
        sums.append(counts.index_add(0, tokens, states))
    torch.testing.assert_close(*sums, atol=1e-3, rtol=1e-3)
    embedder = TransformerEmbedder(encoder, torch.device("cpu"), torch.float32)
    found = list(embedder.token_states(ids))
    assert sum(len(tokens) for tokens, _ in found) == sum(map(len, ids))
    assert found[0][1].dtype == np.float32


@pytest.mark.parametrize("rank", [0, 6])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_it_is_saved_and_loaded(tmp_path, rank, pooling):
    encoder = with_layer(tiny.make_encoder(), rank=rank, pooling=pooling)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    again = read_encoder(tmp_path)
    assert (again.num_units, again.table_dim) == (UNITS, rank)
    assert again.hidden_size == encoder.hidden_size == UNITS + rank
    assert again.num_parameters() == encoder.num_parameters()
    assert again.flops_per_token() == tiny.make_encoder().flops_per_token() + 2 * 32 * UNITS
    np.testing.assert_allclose(vectors(again), vectors(encoder), atol=1e-6)
    in_bf16 = TransformerEmbedder(again, torch.device("cpu"), torch.bfloat16)
    assert (in_bf16.embed(TEXTS, "query", 64) * vectors(encoder)).sum(1).min() > 0.99


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_sentence_transformers_gives_the_same_vectors(tmp_path, pooling):
    st = pytest.importorskip("sentence_transformers", reason="the extra dev brings it")
    encoder = with_layer(tiny.make_encoder(), pooling=pooling)
    write_encoder(encoder, tmp_path, {})
    loaded = st.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(loaded.encode(TEXTS), vectors(encoder), atol=1e-5)
    assert loaded.get_sentence_embedding_dimension() == DIM


def test_another_layer_is_another_model(tmp_path):
    encoder = with_layer(tiny.make_encoder())
    identities = [identify_weights(encoder)]
    with torch.no_grad():
        encoder.token_layer.linear.bias[0] += 1
    identities.append(identify_weights(encoder))
    assert len(set(identities)) == 2


def edit(path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_files_that_contradict_each_other_are_refused(tmp_path):
    write_encoder(with_layer(tiny.make_encoder()), tmp_path, {})
    edit(tmp_path / "leafkit.json", token_units=0)
    with pytest.raises(LeafkitError, match="layer over tokens has 20 units in 1_Dense"):
        read_encoder(tmp_path)
    edit(tmp_path / "leafkit.json", token_units=UNITS)
    modules = json.loads((tmp_path / "modules.json").read_text())
    without = [module for module in modules if module["path"] != "1_Dense"]
    (tmp_path / "modules.json").write_text(json.dumps(without))
    with pytest.raises(LeafkitError, match="0 units"):
        read_encoder(tmp_path)
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_Dense" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(LeafkitError, match="1_Dense"):
        read_encoder(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"activation_function": "torch.nn.modules.activation.Tanh"},
        {"activation_function": "torch.nn.modules.linear.Identity"},
        {"module_input_name": "sentence_embedding"},
        {"module_output_name": "sentence_embedding"},
    ],
)
def test_another_layer_before_the_pooling_is_not_taken_for_it(tmp_path, change):
    write_encoder(with_layer(tiny.make_encoder()), tmp_path, {})
    edit(tmp_path / "1_Dense" / "config.json", **change)
    with pytest.raises(NotStock):
        read_encoder(tmp_path)


def test_a_model_of_others_that_ends_at_its_pooling_is_left_to_sentence_transformers(tmp_path):
    write_encoder(with_layer(tiny.make_encoder()), tmp_path, {})
    (tmp_path / "leafkit.json").unlink()
    modules = json.loads((tmp_path / "modules.json").read_text())
    without = [module for module in modules if module["path"] != "2_Dense"]
    (tmp_path / "modules.json").write_text(json.dumps(without))
    with pytest.raises(NotStock, match="no Dense module reads"):
        read_encoder(tmp_path)


def test_it_does_not_stand_beside_layers_or_without_a_projection():
    encoder = tiny.make_encoder()
    layer = TokenLayer(torch.nn.Linear(32, UNITS))
    with pytest.raises(UsageError, match="head_layers"):
        TextEncoder(
            encoder.backbone,
            encoder.tokenizer,
            EncoderSpec(head_layers=(0, 2)),
            torch.nn.Linear(64, DIM),
            token_layer=layer,
        )
    with pytest.raises(UsageError, match="a layer over tokens"):
        TextEncoder(encoder.backbone, encoder.tokenizer, EncoderSpec(), token_layer=layer)


def test_what_makes_another_encoder_of_one_keeps_it():
    encoder = with_layer(tiny.make_encoder())
    again = configure(encoder, pooling="mean")
    assert again.token_layer is encoder.token_layer
    assert prune_layers(encoder, "1").token_layer is None
    other = with_layer(copy.deepcopy(tiny.make_encoder()))
    with torch.no_grad():
        other.token_layer.linear.weight.zero_()
    mixed = soup([encoder, other], [0.5, 0.5])
    half = encoder.token_layer.linear.weight / 2
    torch.testing.assert_close(mixed.token_layer.linear.weight, half)
    with pytest.raises(LeafkitError, match="units of a layer over tokens"):
        soup([encoder, with_layer(tiny.make_encoder(), units=8)], [0.5, 0.5])


def test_targets_that_hand_on_hidden_states_refuse_it(tmp_path):
    source = ExportSource(with_layer(tiny.make_encoder()))
    with pytest.raises(LeafkitError, match="a layer over tokens") as caught:
        write_targets(source, tmp_path / "out", ["hub"])
    assert "student.token_units=0" in caught.value.hint


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 6])
def test_graphs_hold_it(tmp_path, rank):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "leafkit[onnx]"')
    from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
    from leafkit.exporters.onnx_export import export_graph
    from leafkit.exporters.token_graph import compare_graph, write_token_graph

    encoder = with_layer(tiny.make_encoder(), rank=rank)
    cosines = export_graph(encoder, tmp_path, TEXTS, int8=True)
    assert cosines["float32"] > 1 - 1e-5
    assert cosines["int8"] > 0.99
    found = OnnxGraphEmbedder(tmp_path).embed(TEXTS, "query", 64)
    np.testing.assert_allclose(found, vectors(encoder), atol=1e-4)
    write_token_graph(encoder, tmp_path / "tokens" / "model.onnx")
    assert compare_graph(encoder, tmp_path / "tokens" / "model.onnx", TEXTS) >= 1 - 1e-6
