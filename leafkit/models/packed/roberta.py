"""RoBERTa and XLM-R over a packed batch: BERT whose positions begin behind the padding token's own
row and pass over padding tokens.

Shapes: N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from leafkit.models.packed.architecture import (
    Architecture,
    Model,
    decoder_obstacle,
    dropout_obstacle,
)
from leafkit.models.packed.bert import FEED_FORWARD, bert_states
from leafkit.models.packed.grouping import Packed


def _obstacle(model: Model) -> str:
    attentions = [layer.attention.self for layer in model.encoder.layer]
    return decoder_obstacle(model) or dropout_obstacle(model, attentions, "dropout")


def _states(model: Model, batch: Packed) -> Iterator[torch.Tensor]:
    return bert_states(model, batch, positions_after(model.embeddings.padding_idx, batch))


def positions_after(padding_idx: int, batch: Packed) -> torch.Tensor:
    """Rows of the position table, (N,): ``padding_idx`` plus the count of a text's tokens so far; a
    padding token inside of a text counts nothing and has the row ``padding_idx``.
    """
    counts_N = (batch.ids_N != padding_idx).long()
    before_N = counts_N.cumsum(0) - counts_N
    first_N = torch.arange(len(counts_N), device=counts_N.device) - batch.positions_N
    return (before_N - before_N[first_N] + counts_N) * counts_N + padding_idx


ROBERTA = Architecture(_obstacle, _states, lambda model: model.encoder.layer, FEED_FORWARD)
