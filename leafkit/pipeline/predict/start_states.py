"""The start model's pooled hidden states of all layers, read once for every probe.

Shapes: n texts, L layers, h width of a layer, H = (L + 1) h.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.pooling import count_layers
from leafkit.models.text_encoder import TextEncoder
from leafkit.results.prediction import ALL_LAYERS, LAST_LAYER, THREE_LAYERS, TWO_LAYERS

# kinds of the first layers of the start, and how many
PRUNED = {TWO_LAYERS: 2, THREE_LAYERS: 3}


@dataclass(frozen=True, slots=True)
class Layers:
    """Which part of all states a kind of student reads.

    Attributes:
        columns: of the H.
        share: of the start's layers that it runs.
    """

    columns: slice
    share: float


class StartStates:
    """Reads texts as a start model does, all layers of it.

    Args:
        start: the model; its own head counts for nothing.
        device: where to compute.
        precision: of its weights.

    Attributes:
        seconds: spent on encoding.
        num_texts: encoded.
    """

    def __init__(self, start: TextEncoder, device: torch.device, precision: torch.dtype) -> None:
        self.num_layers = count_layers(start.backbone)
        self.width = int(start.backbone.config.hidden_size)
        layers = tuple(range(self.num_layers + 1)) if self.num_layers else ()
        spec = replace(start.spec, head_layers=layers)
        # an encoder that reads several layers must have a head; pooled states never reach it
        head = nn.Linear(max(1, len(layers)) * self.width, 1)
        self._reader = TextEncoder(start.backbone, start.tokenizer, spec, head)
        self._embedder = TransformerEmbedder(self._reader, device, precision)
        self.seconds, self.num_texts = 0.0, 0

    def read(self, texts: Sequence[str], role: str, max_tokens: int) -> np.ndarray:
        """(n, H) float32 states, the embedding layer's first."""
        began_s = time.perf_counter()
        ids = self._reader.tokenize(texts, role, max_tokens)
        states = self._embedder.embed_ids(ids, pooled_only=True)
        self.seconds += time.perf_counter() - began_s
        self.num_texts += len(texts)
        return states

    def layers_of(self, kind: str) -> Layers | None:
        """What a kind reads; None for a static one, and for one of more layers than there are."""
        h, last = self.width, self.num_layers
        if kind == LAST_LAYER:
            return Layers(slice(last * h, (last + 1) * h), 1.0)
        if kind == ALL_LAYERS and last:
            return Layers(slice(0, (last + 1) * h), 1.0)
        if kind in PRUNED and PRUNED[kind] < last:
            layer = PRUNED[kind]
            return Layers(slice(layer * h, (layer + 1) * h), layer / last)
        return None
