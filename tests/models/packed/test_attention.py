"""Attention inside the texts of a packed batch: both kernels agree, heads are shared, nothing ahead
is seen, bf16 is sound.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from leafkit.models.packed import attention
from leafkit.models.packed.attention import attend, explicit_attention
from leafkit.models.packed.grouping import pack


def batch_of(groups):
    return pack(
        [[0] * length for num_texts, length in groups for _ in range(num_texts)],
        torch.device("cpu"),
    )


@pytest.mark.parametrize("length", [3, 32, 63, 128])
def test_attention_in_bf16_is_as_near_to_float32_as_bf16_is(length):
    """Autocast's float32 softmax is left out: neither the result nor a gradient may be further off
    than with it.
    """
    torch.manual_seed(0)
    exact = [
        torch.randn(2, 3, length, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)
    ]
    weights = torch.randn(2, 3, length, 8, dtype=torch.float64)
    expected = functional.scaled_dot_product_attention(*exact)
    (expected * weights).sum().backward()

    def errors(way):
        inputs = [x.detach().bfloat16().requires_grad_() for x in exact]
        with torch.autocast("cpu", torch.bfloat16):
            found = way(*inputs)
        assert found.dtype == torch.bfloat16
        (found.double() * weights).sum().backward()
        pairs = [(found, expected), *((i.grad, e.grad) for i, e in zip(inputs, exact, strict=True))]
        return [
            float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs
        ]

    def with_float32_softmax(q, k, v):
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v

    for ours, theirs in zip(errors(explicit_attention), errors(with_float32_softmax), strict=True):
        assert ours < max(1.3 * theirs, 0.006)
        assert ours < 0.02


@pytest.mark.parametrize("is_causal", [False, True])
def test_explicit_attention_equals_the_fused_one(is_causal):
    query, key, value = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(1))
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
    torch.testing.assert_close(
        explicit_attention(query, key, value, is_causal), expected, atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("num_shared", [1, 2])
@pytest.mark.parametrize("is_training", [False, True])
def test_texts_do_not_see_each_other_and_share_heads_as_told(is_causal, num_shared, is_training):
    generator = torch.Generator().manual_seed(2)
    groups = [(1, 5), (2, 3), (3, 1)]
    query = torch.randn(14, 4, 8, generator=generator).requires_grad_(is_training)
    key, value = (torch.randn(14, 4 // num_shared, 8, generator=generator) for _ in range(2))
    found, start = attend(query, key, value, batch_of(groups), is_causal=is_causal), 0
    for num_texts, length in groups:
        for _ in range(num_texts):
            q, k, v = (x[start : start + length].transpose(0, 1) for x in (query, key, value))
            k, v = (x.repeat_interleave(num_shared, dim=0) for x in (k, v))
            expected = functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
            torch.testing.assert_close(
                found[start : start + length],
                expected.transpose(0, 1).reshape(length, 32),
                atol=1e-6,
                rtol=1e-5,
            )
            start += length


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("at_once", [1, 3 * 7 * 7 * 2, 2**21])
def test_chunks_of_a_group_change_nothing(is_causal, at_once, monkeypatch):
    """A few texts at a time, one at a time where even one is over the limit, or all."""
    generator = torch.Generator().manual_seed(3)
    groups = [(5, 7), (1, 4), (4, 2)]
    query, key, value = (torch.randn(47, 3, 8, generator=generator).bfloat16() for _ in range(3))
    expected = attend(query, key, value, batch_of(groups), is_causal=is_causal)
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", at_once)
    texts = torch.empty(5, 3, 7, 8)
    assert (
        len(attention._chunks(texts, texts, texts)) == {1: 5, 3 * 7 * 7 * 2: 3, 2**21: 1}[at_once]
    )
    torch.testing.assert_close(
        attend(query, key, value, batch_of(groups), is_causal=is_causal),
        expected,
        atol=0.01,
        rtol=0.01,
    )


@pytest.mark.parametrize("is_causal", [False, True])
def test_a_giant_text_goes_through_the_fused_kernel(is_causal, monkeypatch):
    """Its scores are never written out: 100,000 tokens would be 240 GB of them."""
    generator = torch.Generator().manual_seed(4)
    query, key, value = (
        torch.randn(40 + 6, 3, 8, generator=generator).bfloat16() for _ in range(3)
    )
    expected = attend(query, key, value, batch_of([(1, 40), (2, 3)]), is_causal=is_causal)
    lengths = []
    explicit = attention.explicit_attention
    monkeypatch.setattr(attention, "_LARGEST_SCORES", 3 * 40 * 40 - 1)
    monkeypatch.setattr(
        attention,
        "explicit_attention",
        lambda q, *rest, **more: lengths.append(q.shape[2]) or explicit(q, *rest, **more),
    )
    found = attend(query, key, value, batch_of([(1, 40), (2, 3)]), is_causal=is_causal)
    assert lengths == [3]
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.02)


def written_out(
    query,
    key,
    value,
    starts_q,
    starts_k,
    longest_q,
    longest_k,
    window_size=(-1, -1),
    enable_gqa=False,
    **causal,
):
    """What torch's variable-length kernel computes, text by text; both ends of a window count."""
    assert enable_gqa == (key.shape[1] < query.shape[1])
    num_shared = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(num_shared, dim=1) for x in (key, value))
    assert causal in ({}, {"is_causal": True})
    assert starts_q is starts_k
    assert starts_q.dtype == torch.int32
    spans = list(zip(starts_q[:-1].tolist(), starts_q[1:].tolist(), strict=True))
    assert longest_q == longest_k == max(end - start for start, end in spans)
    left, right = (-1, 0) if causal else window_size
    parts = []
    for start, end in spans:
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        ahead = torch.arange(end - start) - torch.arange(end - start)[:, None]
        is_seen = ((left < 0) | (ahead >= -left)) & ((right < 0) | (ahead <= right))
        parts.append(
            functional.scaled_dot_product_attention(q, k, v, attn_mask=is_seen).transpose(0, 1)
        )
    return torch.cat(parts)


GROUPS = [(1, 11), (2, 6), (3, 3), (2, 1)]


def inputs_of(groups, num_heads=4, num_shared=1, is_training=False):
    generator = torch.Generator().manual_seed(6)
    num_tokens = sum(num_texts * length for num_texts, length in groups)
    return [
        torch.randn(num_tokens, heads, 8, generator=generator).requires_grad_(is_training)
        for heads in (num_heads, num_heads // num_shared, num_heads // num_shared)
    ]


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [0, 1, 4, 10, 50])
@pytest.mark.parametrize("is_training", [False, True])
def test_tokens_see_their_window_of_the_text(is_causal, window, is_training, monkeypatch):
    """Blocks of four queries and more: at their seams, at both ends and in texts shorter than the
    window.
    """
    monkeypatch.setattr(attention, "_SMALLEST_BLOCK", 4)
    inputs = inputs_of(GROUPS, num_shared=2, is_training=is_training)
    batch = batch_of(GROUPS)
    found = attend(*inputs, batch, is_causal=is_causal, window=window)
    query, key, value = inputs
    key, value = (x.repeat_interleave(2, dim=1) for x in (key, value))
    starts, longest = batch.starts, batch.groups[0][1]
    size = (window, 0 if is_causal else window)
    expected = written_out(query, key, value, starts, starts, longest, longest, size).flatten(1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    if is_training:
        weights = torch.linspace(-1, 1, 32)
        gradients = [torch.autograd.grad((x * weights).sum(), inputs) for x in (found, expected)]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("is_training", [False, True])
@pytest.mark.parametrize("at_once", [1, 2**21])
def test_a_bias_is_added_to_the_scores_of_its_group(is_training, at_once, monkeypatch):
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", at_once)
    query, key, value = inputs_of(GROUPS, is_training=is_training)
    generator = torch.Generator().manual_seed(7)
    biases = [
        torch.randn(1, 4, length, length, generator=generator).requires_grad_(is_training)
        for _, length in GROUPS
    ]
    found, start, parts = attend(query, key, value, batch_of(GROUPS), biases_1ATT=biases), 0, []
    for (num_texts, length), bias in zip(GROUPS, biases, strict=True):
        for _ in range(num_texts):
            q, k, v = (x[start : start + length].transpose(0, 1) for x in (query, key, value))
            weights = (q @ k.transpose(1, 2) / 8**0.5 + bias[0]).softmax(dim=-1)
            parts.append((weights @ v).transpose(0, 1).flatten(1))
            start += length
    expected = torch.cat(parts)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    if is_training:
        weights = torch.linspace(-1, 1, 32)
        gradients = [
            torch.autograd.grad((x * weights).sum(), [query, key, value, *biases])
            for x in (found, expected)
        ]
        torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


# one run, several, texts of a length that fills a mask's step, one text
RUNS = [
    [(2, 12), (3, 11), (1, 10)],
    [(1, 40), (2, 16), (2, 14), (5, 3), (2, 1)],
    [(3, 8)],
    [(1, 5)],
]


@pytest.mark.parametrize("groups", RUNS)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [None, 1, 4])
def test_runs_of_similar_length_equal_each_length_by_itself(groups, is_causal, window, ahead):
    """Vectors and gradients; padding sees nothing where the window is narrow, and says nothing."""
    inputs = inputs_of(groups, num_shared=2, is_training=True)
    found = []
    for is_ahead in (False, True):
        ahead(is_ahead)
        context = attend(*inputs, batch_of(groups), is_causal=is_causal, window=window)
        weights = torch.linspace(-1, 1, 32)
        gradients = torch.autograd.grad((context * weights).sum(), inputs)
        found.append((context.detach(), *gradients))
    torch.testing.assert_close(found[1], found[0], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("groups", RUNS)
def test_runs_of_similar_length_have_the_bias_of_their_longest(groups, ahead):
    """As biases by distance are: each is a part of the longest one."""
    longest = groups[0][1]
    generator = torch.Generator().manual_seed(8)
    whole = torch.randn(1, 4, longest, longest, generator=generator).requires_grad_()
    inputs = [*inputs_of(groups, is_training=True), whole]
    found = []
    for is_ahead in (False, True):
        ahead(is_ahead)
        biases = [whole[..., :length, :length] for _, length in groups]
        context = attend(*inputs[:3], batch_of(groups), biases_1ATT=biases)
        gradients = torch.autograd.grad((context * torch.linspace(-1, 1, 32)).sum(), inputs)
        found.append((context.detach(), *gradients))
    torch.testing.assert_close(found[1], found[0], atol=5e-6, rtol=1e-5)


def test_a_run_has_little_padding_and_every_text_once():
    groups = tuple((1 + length % 3, length) for length in range(90, 4, -1))
    runs = attention._runs(groups)
    assert len(runs) < len(groups) / 5
    assert sum(num_texts for num_texts, _, _ in runs) == sum(num_texts for num_texts, _ in groups)
    assert sum(tokens for _, tokens, _ in runs) == sum(r * t for r, t in groups)
    for num_texts, num_tokens, group in runs:
        assert num_tokens >= (1 - attention._MOST_PADDING) * num_texts * groups[group][1]


def test_another_scale_is_that_of_the_scores_and_the_usual_one_changes_nothing():
    inputs, batch = inputs_of(GROUPS), batch_of(GROUPS)
    plain = attend(*inputs, batch)
    assert torch.equal(attend(*inputs, batch, scale=8**-0.5), plain)
    scaled = [inputs[0] * (0.7 * 8**0.5), *inputs[1:]]
    torch.testing.assert_close(attend(*inputs, batch, scale=0.7), attend(*scaled, batch))


def test_a_window_with_biases_is_refused():
    biases = [torch.zeros(1, 4, length, length) for _, length in GROUPS]
    with pytest.raises(ValueError, match="not both"):
        attend(*inputs_of(GROUPS), batch_of(GROUPS), window=3, biases_1ATT=biases)


@pytest.mark.parametrize("is_causal", [False, True])
def test_the_variable_length_kernel_is_told_of_windows_and_takes_no_biases(is_causal, monkeypatch):
    inputs, batch, calls = inputs_of(GROUPS), batch_of(GROUPS), []
    biases = [torch.randn(1, 4, length, length) for _, length in GROUPS]
    expected = [
        attend(*inputs, batch, is_causal=is_causal, window=3),
        attend(*inputs, batch, is_causal=is_causal, window=10),
        attend(*inputs, batch, is_causal=is_causal, biases_1ATT=biases),
    ]
    monkeypatch.setattr(attention, "_takes_any_lengths", lambda query: True)
    monkeypatch.setattr(attention, "_HAS_WINDOWS", True)
    monkeypatch.setattr(
        attention, "varlen_attn", lambda *args, **kw: calls.append(kw) or written_out(*args, **kw)
    )
    found = [
        attend(*inputs, batch, is_causal=is_causal, window=3),
        attend(*inputs, batch, is_causal=is_causal, window=10),
        attend(*inputs, batch, is_causal=is_causal, biases_1ATT=biases),
    ]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert calls[0] == {"window_size": (3, 0 if is_causal else 3)}
    assert calls[1] == (attention._CAUSAL if is_causal else {})
    assert len(calls) == 2
    monkeypatch.setattr(attention, "_HAS_WINDOWS", False)
    attend(*inputs, batch, is_causal=is_causal, window=3)
    assert len(calls) == 2


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("num_shared", [1, 2])
@pytest.mark.parametrize("shares_heads", [False, True])
def test_the_variable_length_kernel_is_told_which_rows_are_one_text(
    is_causal, num_shared, shares_heads, monkeypatch
):
    monkeypatch.setattr(attention, "_SHARES_HEADS", shares_heads)
    generator = torch.Generator().manual_seed(5)
    inputs = [
        torch.randn(17, heads, 8, generator=generator, requires_grad=True)
        for heads in (4, 4 // num_shared, 4 // num_shared)
    ]
    batch = batch_of([(1, 6), (3, 3), (2, 1)])

    def run():
        context = attend(*inputs, batch, is_causal=is_causal)
        return context.detach(), torch.autograd.grad(
            (context * torch.linspace(-1, 1, 32)).sum(), inputs
        )

    expected, gradients = run()
    monkeypatch.setattr(attention, "_takes_any_lengths", lambda query: True)
    monkeypatch.setattr(attention, "varlen_attn", written_out)
    found, found_gradients = run()
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found_gradients, gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "is_taken"),
    [
        (torch.bfloat16, 32, (9, 0), True),
        (torch.float16, 64, (8, 0), True),
        (torch.float32, 32, (9, 0), False),
        (torch.bfloat16, 36, (9, 0), False),
        (torch.bfloat16, 32, (7, 5), False),
        (torch.bfloat16, 264, (9, 0), False),
    ],
)
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_cuda_device_takes_all_texts_at_once_where_its_kernel_can(
    dtype, width, capability, is_taken, is_causal, monkeypatch
):
    """Shapes alone, on a fake device: torch's own declaration of the kernel accepts the call. Where
    it does not, texts go in runs of similar length.
    """
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    calls = []
    real = attention.varlen_attn
    monkeypatch.setattr(
        attention, "varlen_attn", lambda *args, **kw: calls.append(kw) or real(*args, **kw)
    )
    in_runs = []
    monkeypatch.setattr(
        attention,
        "_attend_in_runs",
        lambda inputs, *rest, **kw: in_runs.append(kw) or torch.empty_like(inputs[0]).flatten(1),
    )
    batch = batch_of([(2, 5), (3, 2)])
    with FakeTensorMode():
        query, key = (torch.empty(16, heads, width, dtype=dtype, device="cuda") for heads in (4, 2))
        fake = replace(batch, starts=torch.empty(6, dtype=torch.int32, device="cuda"))
        found = attend(query, key, key, fake, is_causal=is_causal)
    assert (found.shape, found.dtype, found.device.type) == ((16, 4 * width), dtype, "cuda")
    assert (len(calls), len(in_runs)) == (is_taken, not is_taken)
    # heads of keys are not copied for a kernel that shares them
    assert all(call.get("enable_gqa", False) == attention._SHARES_HEADS for call in calls)
