"""Laid-out weights: the same products as torch's linear layers, rounded once, and plain layers
where they do not work.
"""

from __future__ import annotations

import pytest
import torch
from packed_case import KINDS, make, token_ids
from torch import nn
from torch.nn import functional

from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models import onednn_linear
from leafkit.models.onednn_linear import OneDnnLinear, has_onednn_linear, use_onednn_linear
from leafkit.models.packed.backbone import run_packed
from leafkit.models.packed.grouping import pack

CPU = torch.device("cpu")
ACTIVATIONS = {
    "none": lambda x: x,
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}

needs_operators = pytest.mark.skipif(
    not has_onednn_linear(), reason="this torch has no oneDNN operators for laid-out weights"
)


@needs_operators
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("num_tokens", [0, 1, 7, 300])
def test_a_laid_out_layer_is_torchs_layer_rounded_once(activation, has_bias, num_tokens):
    generator = torch.Generator().manual_seed(0)
    inputs, weight, bias = (
        torch.randn(s, generator=generator).bfloat16()
        for s in ((num_tokens, 96), (160, 96), (160,))
    )
    kind = onednn_linear._ACTIVATIONS.get(activation, onednn_linear._NO_ACTIVATION)
    with torch.inference_mode():
        found = OneDnnLinear(weight, bias if has_bias else None, kind)(inputs)
    exact = functional.linear(inputs.double(), weight.double(), bias.double() if has_bias else None)
    expected = ACTIVATIONS[activation](exact)
    assert found.dtype == torch.bfloat16
    assert found.shape == (num_tokens, 160)
    # half a unit of bf16's last place
    assert ((found.double() - expected).abs() <= 2.0**-8 * expected.abs() + 1e-3).all()


class Written(nn.Module):
    """What a laid-out layer computes, by torch's plain operators."""

    def __init__(self, weight, bias, activation):
        super().__init__()
        self.weight, self.bias, self.name = weight, bias, activation
        names = {kind: name for name, kind in onednn_linear._ACTIVATIONS.items()}
        self.activation = ACTIVATIONS[names.get(activation, "none")]

    def forward(self, inputs):
        return self.activation(functional.linear(inputs, self.weight, self.bias))


@pytest.mark.parametrize("kind", KINDS)
def test_the_exchanged_layers_compute_what_the_model_does(kind, monkeypatch):
    """Every layer is exchanged, and each activation is computed once, wherever it is."""
    monkeypatch.setattr(onednn_linear, "OneDnnLinear", Written)
    batch, backbone = pack(token_ids(), CPU), make(kind).backbone
    with torch.no_grad():
        expected = run_packed(backbone, batch)
        use_onednn_linear(backbone)
        found = run_packed(backbone, batch)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert not any(type(module) is nn.Linear for module in backbone.modules())
    written = [module for module in backbone.modules() if isinstance(module, Written)]
    num_fused = sum(module.name != onednn_linear._NO_ACTIVATION for module in written)
    # ModernBERT's one layer computes what is activated and what is not
    assert num_fused == (0 if kind == "modernbert" else backbone.config.num_hidden_layers)


@needs_operators
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_laid_out_layers_is_no_further_from_float32_than_plain_bf16(kind):
    batch = pack(token_ids(), CPU)
    with torch.inference_mode():
        exact = run_packed(make(kind).backbone, batch)
        plain = run_packed(make(kind).backbone.bfloat16(), batch).float()
        backbone = make(kind).backbone.bfloat16()
        use_onednn_linear(backbone)
        found = run_packed(backbone, batch).float()
    assert not any(type(module) is nn.Linear for module in backbone.modules())
    assert (plain - exact).norm() > 0
    assert (found - exact).norm() < 1.1 * (plain - exact).norm()


@needs_operators
def test_an_activation_that_onednn_lacks_stays_where_it_was():
    batch = pack(token_ids(), CPU)
    outputs = []
    for is_laid_out in (False, True):
        backbone = make("bert").backbone.bfloat16()
        backbone.config.hidden_act = "tanh"
        for layer in backbone.encoder.layer:
            layer.intermediate.intermediate_act_fn = nn.Tanh()
        if is_laid_out:
            use_onednn_linear(backbone)
        with torch.inference_mode():
            outputs.append(run_packed(backbone, batch).float())
    torch.testing.assert_close(*outputs, atol=0.05, rtol=0.05)


@needs_operators
def test_only_the_embedders_copy_is_laid_out_and_only_in_bf16():
    encoder = make("bert")
    for precision, is_laid_out in ((torch.float32, False), (torch.bfloat16, True)):
        embedder = TransformerEmbedder(encoder, CPU, precision)
        found = any(isinstance(module, OneDnnLinear) for module in embedder._ready.modules())
        assert found == is_laid_out
        assert not any(isinstance(module, OneDnnLinear) for module in encoder.modules())


@needs_operators
@pytest.mark.parametrize(
    "failure", [NotImplementedError("kernel"), AttributeError("operator"), RuntimeError("oneDNN")]
)
def test_where_the_operators_fail_plain_layers_compute_the_same(failure, monkeypatch):
    expected = TransformerEmbedder(make("bert"), CPU, torch.bfloat16).embed_ids(token_ids())

    def fail(self, inputs):
        raise failure

    monkeypatch.setattr(OneDnnLinear, "forward", fail)
    has_onednn_linear.cache_clear()
    try:
        assert not has_onednn_linear()
        found = TransformerEmbedder(make("bert"), CPU, torch.bfloat16).embed_ids(token_ids())
    finally:
        has_onednn_linear.cache_clear()
    assert (found * expected).sum(axis=1).min() > 0.999


@needs_operators
def test_operators_that_compute_something_else_are_not_used(monkeypatch):
    plain = OneDnnLinear.forward
    monkeypatch.setattr(OneDnnLinear, "forward", lambda self, inputs: plain(self, inputs) + 1)
    has_onednn_linear.cache_clear()
    try:
        assert not has_onednn_linear()
    finally:
        has_onednn_linear.cache_clear()
