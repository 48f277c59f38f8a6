"""Texts to vectors, at the machine's speed: length-sorted token-budget batches, bf16 weights where
that is faster.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from leafkit.core.console import Bar
from leafkit.core.devices import fetch, kind_of
from leafkit.core.process.core_threads import run_on_cores
from leafkit.data.vector_store import Space
from leafkit.embedders.protocol import EmbedderBase
from leafkit.models.onednn_linear import has_onednn_linear, use_onednn_linear
from leafkit.models.packed.backbone import can_pack
from leafkit.models.packed.grouping import TokenIds
from leafkit.models.text_encoder import TextEncoder


class TransformerEmbedder(EmbedderBase):
    """An encoder made ready to embed many texts; an Embedder.

    Args:
        encoder: the model; a copy is taken where the precision or device differs from the
            encoder's.
        device: where to compute.
        precision: torch.bfloat16 computes in bf16 weights; pooling and projection stay float32.
    """

    def __init__(self, encoder: TextEncoder, device: torch.device, precision: torch.dtype) -> None:
        self._encoder = encoder
        self._precision = precision
        self._ready = encoder
        if precision != torch.float32 or encoder.device.type != device.type:
            self._ready = copy.copy(encoder)
            self._ready._modules = dict(encoder._modules)
            self._ready.backbone = copy.deepcopy(encoder.backbone).to(
                device=device, dtype=precision
            )
            if encoder.projection is not None:
                self._ready.projection = copy.deepcopy(encoder.projection).to(device)
            if encoder.token_table is not None:
                self._ready.token_table = copy.deepcopy(encoder.token_table).to(device)
            if encoder.token_layer is not None:
                self._ready.token_layer = copy.deepcopy(encoder.token_layer).to(
                    device=device, dtype=precision
                )
            self._ready.eval()
            if (
                kind_of(device).is_host
                and precision == torch.bfloat16
                and can_pack(self._ready.backbone)
                and has_onednn_linear()
            ):
                use_onednn_linear(self._ready.backbone)
        self._ready.eval()

    @property
    def encoder(self) -> TextEncoder:
        """The model as it was given."""
        return self._encoder

    @property
    def max_tokens(self) -> int:
        """The encoder's own limit."""
        return self.encoder.spec.max_tokens

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._ready.device

    @property
    def precision(self) -> str:
        """Of the backbone's weights at work."""
        return str(self._precision)

    @property
    def fingerprint(self) -> str:
        """Identity of the encoder's weights."""
        return self.encoder.fingerprint

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.encoder.dim

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first."""
        return self.encoder.spec.mrl_dims

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return self.encoder.prompt(role)

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""
        spec = self.encoder.spec
        return Space(
            teacher=self.encoder.fingerprint,
            dim=self.encoder.dim,
            prompt=self.encoder.prompt(role),
            max_tokens=self.encoder.limit(max_tokens),
            pooling=spec.pooling,
            normalized=spec.normalized,
        )

    def embed_ids(
        self, token_ids: TokenIds, pooled_only: bool = False, bar: Bar | None = None
    ) -> np.ndarray:
        """Vectors of tokenised texts, in the order given.

        Args:
            token_ids: ids per text.
            pooled_only: return the pooled hidden states, before projection and normalisation.
            bar: advanced by the texts done.

        Returns:
            (n, D) float32, or (n, H) with ``pooled_only``.
        """
        width = self.encoder.hidden_size if pooled_only else self.encoder.dim
        out = np.empty((len(token_ids), width), dtype=np.float32)
        counting = threading.Lock()

        def begin(rows: list[int]) -> Callable[[], torch.Tensor]:
            pooled = self._ready.pool([token_ids[i] for i in rows])
            vectors = pooled if pooled_only else self._ready.finish(self._ready.project(pooled))
            return fetch(vectors)

        def take(rows: list[int], arriving: Callable[[], torch.Tensor]) -> None:
            out[rows] = arriving().numpy()
            if bar is not None:
                with counting:
                    bar.advance(len(rows))

        kind = kind_of(self._ready.device)
        batches = _cut_into_batches([len(ids) for ids in token_ids], kind.tokens_at_once)
        with torch.inference_mode():
            if kind.is_host:
                run_on_cores(batches, lambda rows: take(rows, begin(rows)))
            else:
                _run_one_ahead(batches, begin, take)
        return out

    def token_states(self, token_ids: TokenIds) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Batch by batch, (N,) ids of tokens and (N, H) float32 last hidden states: before a layer
        over tokens, where there is one.
        """
        tokens_at_once = kind_of(self._ready.device).tokens_at_once
        for rows in _cut_into_batches([len(ids) for ids in token_ids], tokens_at_once):
            with torch.inference_mode():
                ids, states = self._ready.token_states([token_ids[i] for i in rows])
                yield ids.cpu().numpy(), states.float().cpu().numpy()

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts in a role ("query" or "document")."""
        return self.embed_ids(self.encoder.tokenize(texts, role, max_tokens), bar=bar)

    def embed_one(
        self, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(D,) vector of one text, in float32 by the encoder as it was given."""
        encoder = self.encoder
        with torch.inference_mode():
            raw = encoder(encoder.tokenize([text], role, max_tokens))
            vector: np.ndarray = encoder.finish(raw)[0].cpu().numpy()
        return vector


def _run_one_ahead(
    batches: Sequence[list[int]],
    begin: Callable[[list[int]], Callable[[], torch.Tensor]],
    take: Callable[[list[int], Callable[[], torch.Tensor]], None],
) -> None:
    """Begin each batch before the one before it is taken, so that the device has work while the
    processor packs.
    """
    under_way: list[tuple[list[int], Callable[[], torch.Tensor]]] = []
    for rows in batches:
        under_way.append((rows, begin(rows)))
        if len(under_way) > 1:
            take(*under_way.pop(0))
    for rest in under_way:
        take(*rest)


def _cut_into_batches(lengths: Sequence[int], num_tokens: int) -> list[list[int]]:
    """Rows of similar length, the longest first; a text above ``num_tokens`` stands alone."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        count = max(1, num_tokens // max(1, lengths[order[start]]))
        batches.append(order[start : start + count])
        start += count
    return batches
