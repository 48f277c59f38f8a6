"""Large batches in small memory: GradCache (arXiv 2101.06983, section 3) through activation
checkpointing.

Each chunk of texts is encoded without keeping activations; the loss and its gradient with respect
to the vectors need the vectors alone; then each chunk is encoded again and takes its share of the
backward pass. That is GradCache's two passes in one autograd graph: gradients are the direct ones,
in-batch negatives do not depend on memory, and processes synchronise as they do without it, because
every parameter still gets one gradient per step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils.checkpoint import checkpoint

from leafkit.core.devices import send
from leafkit.models.packed.grouping import TokenIds
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.devices.sharded import is_sharded


def split_by_tokens(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Texts in chunks of at most ``max_tokens`` tokens, longest texts first; a longer text has a
    chunk to itself.
    """
    chunks: list[list[int]] = []
    held = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not chunks or held + lengths[i] > max_tokens:
            chunks.append([])
            held = 0
        chunks[-1].append(i)
        held += lengths[i]
    return chunks


def encode_in_chunks(encoder: TextEncoder, token_ids: TokenIds, chunk_tokens: int) -> torch.Tensor:
    """(B, D) raw vectors, like ``encoder(token_ids)``, holding the activations of one chunk at a
    time.

    Args:
        encoder: the model.
        token_ids: (B,) ids per text, of one text at least.
        chunk_tokens: most tokens encoded at once; 0 takes all texts at once and recomputes nothing.
    """
    if not chunk_tokens:
        return encoder(token_ids)
    chunks = split_by_tokens([len(ids) for ids in token_ids], chunk_tokens)
    texts = [[token_ids[i] for i in chunk] for chunk in chunks]
    if is_sharded(encoder):
        vectors = _encode_sharded(encoder, texts)
    else:
        vectors = torch.cat([checkpoint(encoder, ids, use_reentrant=False) for ids in texts])
    order = torch.tensor([i for chunk in chunks for i in chunk])
    return vectors[send(torch.argsort(order), vectors.device)]


def _encode_sharded(encoder: TextEncoder, chunks: Sequence[TokenIds]) -> torch.Tensor:
    """Chunks of an encoder whose weights are shared out: every process encodes equally many, for
    each gathers weights from all. A process that has fewer encodes its first text again, for
    nothing.

    The backward pass of a chunk is one of its own, inside of the whole one (a reentrant
    checkpoint): FSDP tells forward from backward by where the last one stands.
    """
    most = torch.tensor(len(chunks), dtype=torch.int32, device=encoder.device)
    torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
    stand_ins = [chunks[0][:1]] * (int(most) - len(chunks))
    # a reentrant checkpoint has gradients where an input has: token ids are none
    with_gradient = torch.zeros((), requires_grad=True, device=encoder.device)

    def encode(_: torch.Tensor, token_ids: TokenIds) -> torch.Tensor:
        is_first = not torch.is_grad_enabled()
        with torch.enable_grad():  # without, a CPU's attention would round otherwise
            vectors = encoder(token_ids)
        return vectors.detach() if is_first else vectors

    parts = [
        checkpoint(encode, with_gradient, ids, use_reentrant=True) for ids in [*chunks, *stand_ins]
    ]
    vectors = torch.cat(parts[: len(chunks)])
    for idle in parts[len(chunks) :]:
        vectors = vectors + 0 * idle.sum()
    return vectors
