"""Another pooling, attention or prompt; less memory with the same gradients; the wrong architecture
refused.
"""

from __future__ import annotations

import copy

import pytest
import tiny
import torch

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.configure import check_architecture, configure, enable_gradient_checkpointing
from leafkit.models.tiny import tiny_encoder

TEXTS = [
    "Compute the matrix",
    "read the queue backwards and split the string by the first value of a column",
    "a",
] * 4


def make(architecture: str = "qwen2", **settings):
    return tiny_encoder(architecture, tiny.make_tokenizer(), max_tokens=64, **settings)


def vectors(encoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder(encoder.tokenize(TEXTS, "query"))


def test_nothing_asked_for_changes_nothing():
    encoder = make(pooling="last", attention="bidirectional")
    new = configure(encoder)
    assert new.spec == encoder.spec
    assert torch.equal(vectors(new), vectors(encoder))


def test_what_is_asked_for_is_what_a_model_made_so_gives():
    new = configure(
        make(),
        attention="bidirectional",
        pooling="last",
        prompts={"query": "find "},
        templates={"query": "{query}"},
    )
    made = configure(make(attention="bidirectional", pooling="last"), prompts={"query": "find "})
    assert (new.spec.attention, new.spec.pooling, new.spec.prompts) == (
        "bidirectional",
        "last",
        {"query": "find "},
    )
    assert new.spec.templates == {"query": "{query}"}
    assert torch.equal(vectors(new), vectors(made))
    assert not torch.allclose(vectors(new), vectors(make()), atol=1e-2)


def test_the_start_stays_as_it_was_when_it_is_copied_first():
    start = make()
    before = vectors(start)
    configure(copy.deepcopy(start), attention="bidirectional", pooling="last")
    assert torch.equal(vectors(start), before)


def test_the_projection_and_the_mode_are_kept():
    encoder = tiny.make_encoder(dim=48).train()
    new = configure(encoder, pooling="cls")
    assert new.projection is encoder.projection
    assert new.training
    assert new.dim == 48


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"attention": "prefix"}, "attention 'prefix' is not one of bidirectional, causal"),
        ({"pooling": "max"}, "pooling 'max' is not one of mean, cls, last"),
        ({"pooling": "cls"}, "the first token sees no other"),
        ({"pooling": "cls", "attention": "causal"}, "the first token sees no other"),
    ],
)
def test_values_that_make_no_sense_are_usage_errors(settings, match):
    with pytest.raises(UsageError, match=match):
        configure(make(), **settings)


def test_a_bert_takes_bidirectional_and_refuses_causal():
    encoder = tiny.make_encoder()
    assert configure(encoder, attention="bidirectional").spec == encoder.spec
    with pytest.raises(UsageError, match="was built to be bidirectional"):
        configure(encoder, attention="causal")


@pytest.mark.parametrize(
    "architecture", ["qwen2", "mistral", "gemma3_text", "bert", "modernbert", "mpnet"]
)
def test_checkpointed_gradients_equal_the_plain_ones_and_less_is_kept(architecture):
    """What autograd keeps is counted, not timed: each tensor saved for the backward pass."""
    results = []
    for is_checkpointed in (False, True):
        encoder = configure(make(architecture), gradient_checkpointing=is_checkpointed).train()
        encoder.disable_dropout()
        num_kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal num_kept
            num_kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            raw = encoder(encoder.tokenize(TEXTS, "query"))
            num_kept_forward = num_kept
            raw.square().mean(dim=1).sum().backward()
        gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
        results.append((raw.detach(), gradients, num_kept_forward))
    (plain, plain_gradients, kept), (recomputed, gradients, kept_less) = results
    assert torch.equal(plain, recomputed)
    assert gradients.keys() == plain_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, plain_gradients[name], atol=1e-6, rtol=1e-5, msg=name)
    assert kept_less < 0.5 * kept


def test_dropout_is_the_same_when_a_layer_is_computed_again():
    """Another mask in the second pass would give gradients of another function."""
    gradients = []
    for is_checkpointed in (False, True):
        encoder = configure(tiny.make_encoder(), gradient_checkpointing=is_checkpointed).train()
        torch.manual_seed(0)
        encoder(encoder.tokenize(TEXTS, "query")).square().sum().backward()
        gradients.append(encoder.backbone.encoder.layer[0].attention.self.query.weight.grad)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["bert", "qwen2"])
def test_in_evaluation_nothing_is_recomputed(architecture):
    numbers = []
    for is_checkpointed in (False, True):
        encoder = configure(make(architecture), gradient_checkpointing=is_checkpointed).eval()
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t
        ):
            encoder(encoder.tokenize(TEXTS, "query"))
        numbers.append(kept)
    assert numbers[0] == numbers[1] != []


def test_it_is_not_stored(tmp_path):
    write_encoder(configure(make(), gradient_checkpointing=True), tmp_path, {})
    assert not any(
        getattr(m, "gradient_checkpointing", False)
        for m in read_encoder(tmp_path).backbone.modules()
    )


def test_an_architecture_without_layers_to_recompute_is_refused():
    encoder = make()
    type(encoder.backbone).supports_gradient_checkpointing, before = (
        False,
        type(encoder.backbone).supports_gradient_checkpointing,
    )
    try:
        with pytest.raises(
            LeafkitError, match="Qwen2Model does not support gradient checkpointing"
        ):
            enable_gradient_checkpointing(encoder)
    finally:
        type(encoder.backbone).supports_gradient_checkpointing = before


def test_another_architecture_is_refused():
    check_architecture(make(), "")
    check_architecture(make(), "qwen2")
    with pytest.raises(
        LeafkitError, match="architecture=mistral, but the start model is a qwen2"
    ) as caught:
        check_architecture(make(), "mistral")
    assert "architecture=qwen2" in caught.value.hint
