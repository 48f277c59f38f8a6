"""Chunked encoding: the gradients of encoding everything at once, with the activations of one
chunk.
"""

from __future__ import annotations

import copy
import itertools
import weakref

import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from leafkit.models.configure import enable_gradient_checkpointing
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tiny import tiny_encoder
from leafkit.train.gradcache import encode_in_chunks, split_by_tokens

TEXTS = [document for _, document in tiny.make_pairs(12)] + ["", "matrix"]


def make(architecture: str) -> TextEncoder:
    if architecture == "bert":
        return tiny.make_encoder(dim=24, seed=1)
    return tiny_encoder(
        architecture,
        tiny.make_tokenizer(),
        seed=1,
        pooling="last",
        attention="bidirectional",
        max_tokens=128,
    )


def gradients(
    encoder: TextEncoder, chunk_tokens: int, precision: torch.dtype = torch.float32
) -> tuple[float, torch.Tensor]:
    """Loss and joined gradient of what ties all texts together, as in-batch negatives do."""
    encoder = copy.deepcopy(encoder).train()
    encoder.disable_dropout()
    token_ids = encoder.tokenize(TEXTS, "document")
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        vectors = encode_in_chunks(encoder, token_ids, chunk_tokens)
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    loss = torch.nn.functional.cross_entropy(
        vectors @ vectors.roll(1, 0).T / 0.1, torch.arange(len(TEXTS))
    )
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in encoder.parameters()])


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("architecture", ["bert", "qwen2", "mistral"])
@pytest.mark.parametrize("chunk_tokens", [1, 20, 64, 100_000])
def test_gradients_are_the_direct_ones(architecture, chunk_tokens):
    encoder = make(architecture)
    direct_loss, direct = gradients(encoder, 0)
    loss, chunked = gradients(encoder, chunk_tokens)
    assert loss == pytest.approx(direct_loss, rel=1e-5)
    assert float(direct.norm()) > 1e-2
    assert relative(chunked, direct) < 1e-5


@pytest.mark.parametrize("architecture", ["bert", "qwen2"])
def test_bf16_gradients_are_as_near_as_bf16_is(architecture):
    encoder = make(architecture)
    exact = gradients(encoder, 0)[1]
    direct, chunked = (gradients(encoder, chunk, torch.bfloat16)[1] for chunk in (0, 64))
    rounding = relative(direct, exact)
    assert 1e-4 < rounding < 0.1
    assert relative(chunked, direct) < 2 * rounding


def test_gradient_checkpointing_inside_of_chunks_changes_nothing():
    encoder = make("qwen2")
    direct = gradients(encoder, 0)[1]
    enable_gradient_checkpointing(encoder)
    assert relative(gradients(encoder, 64)[1], direct) < 1e-5


class Memory(TorchDispatchMode):
    """Counts the bytes of tensors made inside: alive now, and alive at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                storage = tensor.untyped_storage()
                self.known[storage] = True
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def free(self, size: int) -> None:
        self.now -= size


def peak_bytes(num_texts: int, chunk_tokens: int) -> int:
    encoder = make("bert")
    with Memory() as memory:
        encode_in_chunks(
            encoder, [[2, 50, 51, 52, 53, 54, 55, 3]] * num_texts, chunk_tokens
        ).square().sum().backward()
    return memory.most


def test_activations_are_held_for_one_chunk_whatever_the_batch():
    """What 48 more texts cost at the peak, forward and backward: their vectors instead of their
    activations.
    """
    direct, chunked = (peak_bytes(64, chunk) - peak_bytes(16, chunk) for chunk in (0, 32))
    assert direct > 48 * 8 * 32 * 4 * 10  # texts x tokens x width x float32 x tensors of two layers
    assert 48 * 24 * 4 <= chunked < 0.05 * direct


def test_each_chunk_is_encoded_twice_and_within_its_budget():
    encoder = make("bert")
    seen: list[int] = []
    forward = encoder.forward

    def counted(ids):
        seen.append(sum(map(len, ids)))
        return forward(ids)

    encoder.forward = counted
    token_ids = encoder.tokenize(TEXTS, "document")
    vectors = encode_in_chunks(encoder, token_ids, 40)
    num_chunks = len(seen)
    assert num_chunks > 3
    assert max(seen) <= max(40, *map(len, token_ids))
    vectors.sum().backward()
    assert sorted(seen[num_chunks:]) == sorted(seen[:num_chunks])


def test_nothing_is_recomputed_without_chunks():
    encoder = make("bert")
    seen: list[int] = []
    encoder.register_forward_hook(lambda *_: seen.append(1))
    encode_in_chunks(encoder, encoder.tokenize(TEXTS, "document"), 0).sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize("chunk_tokens", [0, 1, 30, 10_000])
def test_vectors_come_in_the_order_of_their_texts(chunk_tokens):
    encoder = make("bert")
    token_ids = encoder.tokenize(TEXTS, "document")
    with torch.no_grad():
        vectors = encode_in_chunks(encoder, token_ids, chunk_tokens)
        alone = torch.cat([encoder([ids]) for ids in token_ids])
    assert torch.allclose(vectors, alone, atol=1e-5)
    # an order mixed up would show
    assert float(torch.cdist(alone, alone).fill_diagonal_(1.0).min()) > 1e-3


@pytest.mark.parametrize("chunk_tokens", [0, 16])
def test_no_texts_are_refused(chunk_tokens):
    """A loss over nothing would be no number."""
    with pytest.raises(ValueError, match=r"at least one|non-empty"):
        encode_in_chunks(make("bert"), [], chunk_tokens)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("max_tokens", [1, 10, 33, 10_000])
def test_chunks_hold_every_text_once_longest_first_within_the_budget(seed, max_tokens):
    lengths = torch.randint(1, 30, (40,), generator=torch.Generator().manual_seed(seed)).tolist()
    chunks = split_by_tokens(lengths, max_tokens)
    order = [i for chunk in chunks for i in chunk]
    assert sorted(order) == list(range(40))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    for chunk in chunks:
        assert len(chunk) == 1 or sum(lengths[i] for i in chunk) <= max_tokens
    for chunk, following in itertools.pairwise(chunks):  # no chunk ends early
        assert sum(lengths[i] for i in chunk) + lengths[following[0]] > max_tokens


def test_edges_of_chunks():
    assert split_by_tokens([], 10) == []
    assert split_by_tokens([50], 10) == [[0]]
    assert split_by_tokens([50, 5, 5], 10) == [[0], [1, 2]]
    assert split_by_tokens([5, 5, 5], 10) == [[0, 1], [2]]
