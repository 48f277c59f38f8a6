"""One interface for both kinds of encoder, from a reference or a folder and back to a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.encoder_protocol import Encoder, load_model, read_model, save_model
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.models.text_encoder import TextEncoder

TEXTS = ["compute the matrix", "", "invert the graph of the table quickly"]
KINDS = {"transformer": TextEncoder, "static": StaticEncoder}


def make(kind: str) -> Encoder:
    torch.manual_seed(0)
    if kind == "transformer":
        return tiny.make_encoder().eval()
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    table = torch.randn(tokenizer.get_vocab_size(), 8)
    return StaticEncoder(tokenizer, table, nn.Linear(8, 24), (24, 8)).eval()


def vectors(encoder: Encoder, dim: int | None = None) -> torch.Tensor:
    with torch.no_grad():
        return encoder.finish(encoder(encoder.tokenize(TEXTS, "query")), dim)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_comes_back_as_what_it_was(kind, tmp_path):
    encoder = make(kind)
    save_model(encoder, tmp_path / "model", {"kind": "teacher"})
    for reference in (tmp_path / "model", str(tmp_path / "model"), f"model:{tmp_path}/model"):
        found = load_model(reference)
        assert type(found) is KINDS[kind]
        torch.testing.assert_close(vectors(found), vectors(encoder), rtol=0, atol=1e-6)
    assert found.spec.mrl_dims == encoder.spec.mrl_dims
    assert found.fingerprint == read_model(tmp_path / "model").fingerprint != ""


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_weights(kind):
    encoder = make(kind)
    assert encoder.num_parameters() == sum(p.numel() for p in encoder.parameters())
    assert 0 < encoder.num_embedding_parameters() < encoder.num_parameters()
    assert encoder.flops_per_token() > 0
    assert encoder.device == torch.device("cpu")
    with torch.no_grad():
        pooled = encoder.pool(encoder.tokenize(TEXTS, "document"))
        assert pooled.shape == (len(TEXTS), encoder.hidden_size)
        assert encoder.project(pooled).shape == (len(TEXTS), encoder.dim)
    assert vectors(encoder, 8).norm(dim=1) == pytest.approx(1.0, abs=1e-6)


def test_references_of_other_kinds_are_loaded_or_refused(tmp_path):
    assert isinstance(load_model("tiny:bert"), TextEncoder)
    with pytest.raises(UsageError, match="unknown model 'nonsense'"):
        load_model("nonsense")
    with pytest.raises(LeafkitError, match="holds no model"):
        load_model(tmp_path)


def test_an_encoder_without_a_layout_is_not_written(tmp_path: Path):
    class Other(nn.Module):
        pass

    with pytest.raises(LeafkitError, match="a Other has no layout on disk"):
        save_model(Other(), tmp_path / "model", {})
    assert not (tmp_path / "model").exists()
