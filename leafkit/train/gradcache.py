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
    parts = [
        checkpoint(encoder, [token_ids[i] for i in chunk], use_reentrant=False) for chunk in chunks
    ]
    order = torch.tensor([i for chunk in chunks for i in chunk])
    vectors = torch.cat(parts)
    return vectors[send(torch.argsort(order), vectors.device)]
