"""A table of token vectors beside the transformer: its means, packed and padded, saved and loaded,
in graphs, and refused where it does not fit.
"""

from __future__ import annotations

import copy

import numpy as np
import packed_case
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.exporters.source import ExportSource
from leafkit.exporters.targets import write_targets
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.configure import configure
from leafkit.models.heads.token_table import TABLE_FILE, TokenTable
from leafkit.models.prune_layers import prune_layers
from leafkit.models.soup import soup
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.model_in_memory import identify_weights

TEXTS = ["Compute the matrix", "", "read the queue backwards and split the string", "a"]
RANK = 6


def with_table(encoder, dim=24, *, layers=(), pooling="mean", num_rows=40) -> TextEncoder:
    torch.manual_seed(5)
    num_tokens = encoder.backbone.get_input_embeddings().weight.shape[0]
    known = torch.randperm(num_tokens)[:num_rows]
    table = TokenTable(known, torch.randn(len(known), RANK), num_tokens)
    width = encoder.backbone.config.hidden_size * max(1, len(layers)) + RANK
    spec = EncoderSpec(pooling, max_tokens=64, head_layers=tuple(layers))
    made = TextEncoder(
        encoder.backbone, encoder.tokenizer, spec, torch.nn.Linear(width, dim), token_table=table
    )
    made.disable_dropout()
    return made.eval()


def vectors(encoder, texts=TEXTS) -> np.ndarray:
    return tiny.vectors_of(encoder, texts)


def test_means_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.0, 8.0]])
    table = TokenTable(torch.tensor([7, 3]), rows, 9)
    found = table([[7], [3, 7], [3, 3, 5, 0], np.array([5, 5])])
    expected = [[1.0, 0.0], [0.5, 4.0], [0.0, 4.0], [0.0, 0.0]]  # 5 and 0 have no row, and count
    torch.testing.assert_close(found, torch.tensor(expected))
    assert table.token_ids.tolist() == [7, 3]
    assert table.out_features == 2
    looked_up = table.look_up(torch.tensor([[7, 5, 3]]))
    torch.testing.assert_close(looked_up, torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 8.0]]]))


@pytest.mark.parametrize("kind", packed_case.KINDS)
def test_packed_and_padded_vectors_and_gradients_are_equal(kind, monkeypatch):
    encoder = with_table(packed_case.make(kind), num_rows=60)
    ids = packed_case.token_ids()
    results = []
    for _ in packed_case.packed_then_padded(monkeypatch):
        encoder.zero_grad()
        pooled = encoder.pool(ids)
        assert pooled.shape == (len(ids), encoder.hidden_size)
        torch.testing.assert_close(pooled[:, -RANK:], encoder.token_table(ids))
        encoder.project(pooled).square().sum().backward()
        gradient = encoder.token_table.rows.grad
        assert gradient is not None
        assert bool(gradient.any())
        results.append((pooled.detach(), gradient.clone()))
    for packed, padded in zip(*results, strict=True):
        torch.testing.assert_close(packed, padded, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("layers", [(), (0, 2)])
def test_it_is_saved_and_loaded(tmp_path, layers):
    encoder = with_table(tiny.make_encoder(), layers=layers)
    write_encoder(encoder, tmp_path, {"kind": "student"})
    again = read_encoder(tmp_path)
    assert (again.table_dim, again.hidden_size) == (RANK, encoder.hidden_size)
    assert again.num_parameters() == encoder.num_parameters()
    plain = tiny.make_encoder().num_embedding_parameters()
    assert again.num_embedding_parameters() == plain + 40 * RANK
    np.testing.assert_allclose(vectors(again), vectors(encoder), atol=1e-6)
    in_bf16 = TransformerEmbedder(again, torch.device("cpu"), torch.bfloat16)
    assert (in_bf16.embed(TEXTS, "query", 64) * vectors(encoder)).sum(1).min() > 0.99


def test_another_table_is_another_model(tmp_path):
    encoder = with_table(tiny.make_encoder())
    identities, states = [identify_weights(encoder)], [encoder.state_dict()]
    write_encoder(encoder, tmp_path / "a", {})
    table = encoder.token_table
    encoder.token_table = TokenTable(table.token_ids.flip(0), table.rows, len(table.places))
    identities.append(identify_weights(encoder))
    write_encoder(encoder, tmp_path / "b", {})
    with torch.no_grad():
        encoder.token_table.rows[0, 0] += 1
    identities.append(identify_weights(encoder))
    write_encoder(encoder, tmp_path / "c", {})
    read = [read_encoder(tmp_path / name).fingerprint for name in "abc"]
    assert len(set(read)) == len(set(identities)) == 3
    # weights alone, as a training keeps them, say whose rows they are too
    other = with_table(tiny.make_encoder())
    other.token_table = TokenTable(table.token_ids.flip(0), table.rows, len(table.places))
    other.load_state_dict(states[0])
    np.testing.assert_array_equal(vectors(other), vectors(read_encoder(tmp_path / "a")))


def change(folder, **tensors) -> None:
    path = folder / TABLE_FILE
    save_file({k: v for k, v in (load_file(path) | tensors).items() if v is not None}, path)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"rows": None}, "it holds token_ids, not token_ids and rows"),
        ({"rows": torch.ones(40, RANK + 1)}, "a vector of 6 dimensions for each"),
        ({"rows": torch.full((40, RANK), torch.nan)}, "a vector is not finite"),
        ({"token_ids": torch.zeros(40, dtype=torch.int64)}, "not each another one"),
        ({"token_ids": torch.arange(40) + 10**6}, "not each another one of the vocabulary's"),
        ({"token_ids": torch.arange(40).float()}, "are not numbers of tokens"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, tensors, match):
    write_encoder(with_table(tiny.make_encoder()), tmp_path, {})
    change(tmp_path, **tensors)
    with pytest.raises(LeafkitError, match=match) as caught:
        read_encoder(tmp_path)
    assert TABLE_FILE in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "value", "match"),
    [
        ("2_Dense/config.json", ..., "of 0 dimensions in 2_Dense/config.json and of 6 in leafkit"),
        ("2_Dense/config.json", 5, "of 5 dimensions in 2_Dense/config.json and of 6"),
        ("2_Dense/config.json", "6", "'6' is not a number of dimensions"),
        ("leafkit.json", ..., "of 6 dimensions in 2_Dense/config.json and of 0 in leafkit.json"),
    ],
)
def test_a_folder_whose_files_contradict_each_other_is_refused(tmp_path, file, value, match):
    write_encoder(with_table(tiny.make_encoder()), tmp_path, {"kind": "student"})
    tiny.edit_json(tmp_path / file, token_table=value)
    with pytest.raises(LeafkitError, match=match) as caught:
        read_encoder(tmp_path)
    assert caught.value.hint


def test_a_folder_without_its_table_is_refused(tmp_path):
    write_encoder(with_table(tiny.make_encoder()), tmp_path, {})
    (tmp_path / TABLE_FILE).unlink()
    with pytest.raises(LeafkitError, match="the table of token vectors cannot be loaded"):
        read_encoder(tmp_path)


def test_sentence_transformers_fails_instead_of_giving_other_vectors(tmp_path):
    st = pytest.importorskip("sentence_transformers")
    write_encoder(with_table(tiny.make_encoder()), tmp_path, {"kind": "student"})
    model = st.SentenceTransformer(str(tmp_path), device="cpu")
    with pytest.raises(RuntimeError, match=r"shapes cannot be multiplied .*32 and 38x24"):
        model.encode(TEXTS)


def test_the_hub_is_refused_before_anything_is_written(tmp_path):
    source = ExportSource(with_table(tiny.make_encoder()))
    with pytest.raises(LeafkitError, match="reads a table of token vectors") as caught:
        write_targets(source, tmp_path / "out", ["hub"])
    assert "student.token_table=0" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_it_needs_a_projection_that_reads_it():
    encoder = with_table(tiny.make_encoder())
    parts = (encoder.backbone, encoder.tokenizer, EncoderSpec())
    with pytest.raises(UsageError, match="a table of token vectors beside the last layer need a"):
        TextEncoder(*parts, token_table=encoder.token_table)
    with pytest.raises(UsageError, match="takes 32 dimensions, and 38 are read"):
        TextEncoder(*parts, torch.nn.Linear(32, 24), token_table=encoder.token_table)


def test_what_is_made_of_a_model_keeps_its_table_or_its_head_too():
    encoder = with_table(tiny.make_encoder())
    other = configure(copy.deepcopy(encoder), prompts={"query": "ask: "})
    texts = [f"ask: {text}" for text in TEXTS]
    np.testing.assert_allclose(vectors(other), vectors(encoder, texts), atol=1e-6)
    pruned = prune_layers(encoder, "1")
    assert (pruned.token_table, pruned.projection) == (None, None)


def test_models_with_other_tokens_in_their_tables_are_not_averaged():
    one = with_table(tiny.make_encoder())
    other = copy.deepcopy(one)
    np.testing.assert_allclose(vectors(soup([one, other], [0.5, 0.5])), vectors(one), atol=1e-6)
    table = other.token_table
    num_tokens = len(table.places)
    other.token_table = TokenTable(table.token_ids.flip(0), table.rows, num_tokens)
    with pytest.raises(LeafkitError, match="different token tables cannot be averaged"):
        soup([one, other], [0.5, 0.5])


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("layers", [(), (0, 1, packed_case.NUM_LAYERS)])
def test_what_is_exported_gives_the_models_vectors(layers, pooling):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    from leafkit.exporters.onnx_export import _ServedVector
    from leafkit.exporters.token_graph import _TokensAndVector

    encoder = with_table(packed_case.make("bert"), layers=layers, pooling=pooling, num_rows=60)
    ids = packed_case.token_ids((3, 7))
    padded = torch.tensor([[*text, *[0] * (7 - len(text))] for text in ids])
    mask = torch.tensor([[1] * 3 + [0] * 4, [1] * 7])
    with torch.no_grad():
        expected = encoder.finish(encoder(ids))
        torch.testing.assert_close(
            _ServedVector(encoder).eval()(padded, mask), expected, atol=1e-5, rtol=1e-5
        )
        if pooling == "mean":
            found = _TokensAndVector(encoder).eval()(padded, mask)[1]
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_one_graph_holds_the_table(tmp_path):
    pytest.importorskip("onnxruntime", reason='needs pip install "leafkit[onnx]"')
    pytest.importorskip("onnxscript", reason='needs pip install "leafkit[onnx]"')
    from leafkit.embedders.onnx_graph import OnnxGraphEmbedder
    from leafkit.exporters.onnx_export import export_graph
    from leafkit.exporters.token_graph import compare_graph, write_token_graph

    encoder = with_table(tiny.make_encoder(), num_rows=200)
    cosines = export_graph(encoder, tmp_path, TEXTS, int8=True)
    assert cosines["float32"] > 1 - 1e-5
    assert cosines["int8"] > 0.99
    found = OnnxGraphEmbedder(tmp_path).embed(TEXTS, "query", 64)
    np.testing.assert_allclose(found, vectors(encoder), atol=1e-4)
    write_token_graph(encoder, tmp_path / "tokens" / "model.onnx")
    assert compare_graph(encoder, tmp_path / "tokens" / "model.onnx", TEXTS) >= 1 - 1e-6
