"""Adapters: they alone train, and merged they are the model that was trained."""

from __future__ import annotations

import sys

import pytest
import tiny
import torch

from leafkit.core.errors import MissingExtra, UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.lora import add_adapters, merge_adapters
from leafkit.models.tiny import tiny_encoder

TEXTS = ["Compute the matrix", "read the queue backwards", "a"]
QWEN, BERT = (
    ["q_proj", "k_proj", "v_proj", "o_proj"],
    ["query", "key", "value", "attention.output.dense"],
)


def make(architecture: str):
    if architecture == "bert":
        return tiny.make_encoder(dim=48)
    return tiny_encoder(
        architecture, tiny.make_tokenizer(), attention="bidirectional", max_tokens=64
    )


def vectors(encoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(encoder.tokenize(TEXTS, "query"))


def train(encoder) -> None:
    """A few steps that move the vectors a good way."""
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=3e-2)
    goal = torch.randn(len(TEXTS), encoder.dim, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        optimizer.zero_grad()
        (encoder.train()(encoder.tokenize(TEXTS, "query")) - goal).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("architecture", "targets"),
    [("qwen2", QWEN), ("mistral", QWEN), ("gemma3_text", ["q_proj"]), ("bert", BERT)],
)
def test_only_adapters_train_and_merging_keeps_the_vectors(tmp_path, architecture, targets):
    encoder = make(architecture)
    encoder.disable_dropout()
    names = encoder.state_dict().keys()
    before, first = (
        {name: value.clone() for name, value in encoder.state_dict().items()},
        vectors(encoder),
    )
    add_adapters(encoder, rank=4, alpha=8, targets=targets, seed=0)
    assert torch.equal(vectors(encoder), first)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * len(targets)  # A and B of two layers
    assert all("lora_" in name for name in trained)
    train(encoder)
    adapted = vectors(encoder)
    assert float((adapted - first).abs().max()) > 0.05
    merge_adapters(encoder)
    assert encoder.state_dict().keys() == names
    assert float((vectors(encoder) - adapted).abs().max()) <= 1e-5
    changed = {
        name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])
    }
    assert len(changed) == 2 * len(targets)
    assert all(name.removesuffix(".weight").endswith(tuple(targets)) for name in changed)
    assert all(p.requires_grad for p in encoder.parameters())
    write_encoder(encoder, tmp_path, {})
    # as its memory lies
    torch.testing.assert_close(vectors(read_encoder(tmp_path)), vectors(encoder), rtol=0, atol=1e-5)


def test_a_merged_model_takes_adapters_again():
    encoder = make("qwen2")
    for _ in range(2):
        add_adapters(encoder, 2, 4.0, ["q_proj"], seed=0)
        merge_adapters(encoder)
    assert torch.equal(vectors(encoder), vectors(make("qwen2")))


def test_adapters_follow_the_seed_and_leave_the_global_state_alone():
    found = []
    for seed in (0, 0, 1):
        encoder = make("qwen2")
        state = torch.get_rng_state()
        add_adapters(encoder, 4, 8, ["q_proj"], seed=seed)
        assert torch.equal(torch.get_rng_state(), state)
        found.append(
            torch.cat([p.flatten() for n, p in encoder.named_parameters() if "lora_A" in n])
        )
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_gpt2s_linear_layers_count_as_such():
    encoder = make("gpt2")
    add_adapters(encoder, 2, 4, ["c_attn"], seed=0)
    train(encoder)
    adapted = vectors(encoder)
    merge_adapters(encoder)
    assert float((vectors(encoder) - adapted).abs().max()) <= 1e-5


@pytest.mark.parametrize("targets", [["q_proj", "query"], ["proj"], ["layers"], ["norm"], ["0"]])
def test_targets_that_name_no_linear_layer_are_usage_errors(targets):
    """peft ignores a target that matches nothing as long as another one matches."""
    encoder = make("qwen2")
    with pytest.raises(UsageError, match=f"Qwen2Model has no linear layer {targets[-1]}") as caught:
        add_adapters(encoder, 4, 8, targets, seed=0)
    assert (
        caught.value.hint
        == "its linear layers are down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    )
    assert all(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize(("rank", "targets"), [(0, QWEN), (-1, QWEN), (4, [])])
def test_adapters_of_nothing_are_usage_errors(rank, targets):
    with pytest.raises(UsageError, match="adapt nothing"):
        add_adapters(make("qwen2"), rank, 8, targets, seed=0)


def test_merging_without_adapters_is_a_usage_error():
    with pytest.raises(UsageError, match="no adapters"):
        merge_adapters(make("qwen2"))


def test_a_missing_peft_is_named_with_its_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "peft", raising=False)
    monkeypatch.setattr("leafkit.models.lora.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="'peft'") as caught:
        add_adapters(make("qwen2"), 4, 8, QWEN, seed=0)
    assert caught.value.hint == 'pip install "leafkit[lora]"'


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_share_of_the_adapters_is_the_average_with_the_model_without_them(share):
    before = make("qwen2").state_dict()
    ends = {}
    for merged in (1.0, share):
        encoder = make("qwen2")
        add_adapters(encoder, 4, 8, QWEN, seed=0)
        train(encoder)
        merge_adapters(encoder, merged)
        ends[merged] = encoder.state_dict()
    for name, value in ends[share].items():
        expected = share * ends[1.0][name] + (1 - share) * before[name]
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
    assert share > 0 or all(torch.equal(ends[share][name], before[name]) for name in before)
