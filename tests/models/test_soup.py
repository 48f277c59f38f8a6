"""Weight averages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tiny
import torch
from transformers import BertTokenizerFast

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.soup import average_into, softmax_weights, soup
from leafkit.models.tiny import tiny_encoder
from leafkit.models.tokenization import with_eos


def weights(encoder) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in encoder.parameters()])


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_the_average_is_linear_in_the_share(share):
    tuned, start = tiny.make_encoder(seed=1), tiny.make_encoder(seed=2)
    mine, theirs = weights(tuned), weights(start)
    average_into(tuned, start, share)
    assert torch.allclose(weights(tuned), share * mine + (1 - share) * theirs, atol=1e-7)
    assert torch.equal(weights(start), theirs)


@pytest.mark.parametrize(("share", "kept"), [(1.0, 0), (0.0, 1)])
def test_the_ends_are_exact(share, kept):
    pair = tiny.make_encoder(seed=1), tiny.make_encoder(seed=2)
    expected = weights(pair[kept])
    average_into(*pair, share)
    assert torch.equal(weights(pair[0]), expected)


def test_the_projection_is_averaged_too():
    tuned, start = tiny.make_encoder(seed=1, dim=8), tiny.make_encoder(seed=2, dim=8)
    expected = (tuned.projection.weight.detach() + start.projection.weight.detach()) / 2
    average_into(tuned, start, 0.5)
    assert torch.allclose(tuned.projection.weight, expected, atol=1e-7)


@pytest.mark.parametrize("settings", [{"hidden": 48}, {"dim": 8}])
def test_unlike_models_are_refused(settings):
    with pytest.raises(LeafkitError, match="models of different shape cannot be averaged"):
        average_into(tiny.make_encoder(), tiny.make_encoder(**settings), 0.5)


def make(seed: int, **settings):
    return tiny.make_encoder(seed=seed, **settings)


@pytest.mark.parametrize(
    "shares", [[1.0], [0.25, 0.75], [0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
)
def test_a_soup_is_the_weighted_sum(shares):
    members = [make(seed, dim=8, mrl_dims=(8, 4)) for seed in range(len(shares))]
    before = [weights(member).numpy().astype(np.float64) for member in members]
    mixed = soup(members, shares)
    expected = sum(share * vector for share, vector in zip(shares, before, strict=True))
    assert np.abs(weights(mixed).numpy() - expected).max() < 1e-6
    assert all(np.array_equal(weights(m).numpy(), b) for m, b in zip(members, before, strict=True))
    assert mixed.spec == members[0].spec
    assert mixed.fingerprint == ""


def test_weights_in_bf16_are_summed_in_float32():
    """1 + 5 x 2^-9 in bf16: summed there term by term it would stay at 1."""
    members = [make(0) for _ in range(6)]
    for i, member in enumerate(members):
        member.to(torch.bfloat16)
        with torch.no_grad():
            for p in member.parameters():
                p.fill_(6.0 if i == 0 else 6 * 2.0**-9)
    mixed = soup(members, [1 / 6] * 6)
    assert {p.dtype for p in mixed.parameters()} == {torch.bfloat16}
    assert float(weights(mixed)[0]) == float(torch.tensor(1 + 5 * 2.0**-9).to(torch.bfloat16)) > 1


@pytest.mark.parametrize(
    ("shares", "match"),
    [
        ([0.5, 0.6], "not shares that sum to 1"),
        ([1.5, -0.5], "not shares"),
        ([float("nan"), 1.0], "not shares"),
        ([1.0], "1 soup weights for 2 models"),
        ([], "0 soup weights for 2 models"),
        ([0.5, 0.25, 0.25], "3 soup weights"),
    ],
)
def test_weights_that_are_no_shares_are_usage_errors(shares, match):
    with pytest.raises(UsageError, match=match):
        soup([make(1), make(2)], shares)


def test_a_soup_of_nothing_is_a_usage_error():
    with pytest.raises(UsageError, match="0 soup weights for 0 models"):
        soup([], [])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"hidden": 48}, "different shape"),
        ({"dim": 8}, "different shape"),
        ({"pooling": "cls"}, "different pooling"),
        ({"prompts": {"query": "find "}}, "different prompts"),
        ({"normalized": False}, "different normalization"),
    ],
)
def test_members_trained_for_another_use_are_refused(settings, match):
    with pytest.raises(LeafkitError, match=f"{match}.* cannot be averaged") as caught:
        soup([make(1), make(2), make(3, **settings)], [0.5, 0.25, 0.25])
    assert caught.value.hint


def test_members_of_another_attention_are_refused():
    pair = [
        tiny_encoder("qwen2", tiny.make_tokenizer(), seed=i, attention=a)
        for i, a in enumerate(("causal", "bidirectional"))
    ]
    with pytest.raises(
        LeafkitError,
        match=r"different attention cannot be averaged \('causal' and 'bidirectional'\)",
    ):
        soup(pair, [0.5, 0.5])


def test_members_of_another_architecture_are_refused():
    pair = [tiny_encoder(name, tiny.make_tokenizer()) for name in ("mistral", "llama")]
    with pytest.raises(LeafkitError, match="different architecture"):
        soup(pair, [0.5, 0.5])


def test_members_with_another_vocabulary_are_refused():
    other = make(2)
    words = other.tokenizer.get_vocab()
    words["matrix"], words["vector"] = words["vector"], words["matrix"]
    other.tokenizer = BertTokenizerFast(vocab=words, model_max_length=128)
    with pytest.raises(LeafkitError, match=r"different vocabulary cannot be averaged$"):
        soup([make(1), other], [0.5, 0.5])


def test_members_whose_special_tokens_differ_are_refused():
    other = make(2)
    other.tokenizer.eos_token = "[SEP]"
    with pytest.raises(LeafkitError, match="different special tokens"):
        soup([make(1), other], [0.5, 0.5])


def test_members_that_end_texts_differently_are_refused():
    pair = [tiny_encoder("qwen2", tiny.make_tokenizer(), seed=i) for i in range(2)]
    pair[1].tokenizer = with_eos(pair[1].tokenizer)
    with pytest.raises(LeafkitError, match="different token ids"):
        soup(pair, [0.5, 0.5])


def test_prompts_that_say_nothing_are_no_difference():
    soup([make(1), make(2, prompts={"query": "", "document": ""})], [0.5, 0.5])


@pytest.mark.parametrize("temperature", [0.1, 1.0, 5.0])
def test_better_members_weigh_more(temperature):
    losses = [2.0, 1.0, 1.5]
    expected = (
        np.exp(-np.array(losses) / temperature) / np.exp(-np.array(losses) / temperature).sum()
    )
    assert softmax_weights(losses, temperature) == pytest.approx(expected.tolist(), abs=1e-12)


def test_the_default_temperature_is_5():
    assert softmax_weights([5.0, 0.0]) == pytest.approx([1 / (1 + math.e), math.e / (1 + math.e)])


def test_losses_far_apart_do_not_overflow():
    assert softmax_weights([1e6, 0.0, 2e6], 0.01) == [0.0, 1.0, 0.0]
    assert softmax_weights([1e9, 1e9]) == [0.5, 0.5]


@pytest.mark.parametrize("losses", [[], [float("nan"), 1.0], [float("inf")]])
def test_losses_that_are_none_are_refused(losses):
    with pytest.raises(LeafkitError, match="give no soup weights"):
        softmax_weights(losses)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_not_above_0_is_a_usage_error(temperature):
    with pytest.raises(UsageError, match="is not above 0"):
        softmax_weights([1.0, 2.0], temperature)
