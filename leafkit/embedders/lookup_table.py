"""A static student made ready to answer: a query is a tokenizer call, a gather, a sum and a
division, all in numpy.

W_out is multiplied into the table when it is loaded. It commutes with the mean, and the bias, which
belongs to every mean once, goes into every row: mean_i(t_i) W + b = mean_i(t_i W + b). The mean's
division is left to the normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from leafkit.core.console import Bar
from leafkit.core.truncate import SMALLEST_NORM
from leafkit.data.vector_store import Space
from leafkit.embedders.protocol import NO_LIMIT, EmbedderBase
from leafkit.models.static_encoder import StaticEncoder

_TEXTS_PER_CALL = 1024  # tokenised at once; the tokenizer's objects are larger than the vectors
_ROWS_PER_PRODUCT = 4096  # of the table folded at once: no second copy of it in memory


class LookupTableEmbedder(EmbedderBase):
    """A static encoder as an Embedder, with a faster way for a single query.

    Args:
        encoder: the model; later changes of its weights are not seen.
        dtype: of the folded table: float32 is faster, float16 takes half the memory and moves a
            vector by a cosine of 1e-7.

    Attributes:
        table: (V, D) token vectors in the teacher's space.
    """

    def __init__(
        self, encoder: StaticEncoder, dtype: type[np.float32] | type[np.float16] = np.float32
    ) -> None:
        self._encoder = encoder
        self.table = fold_table(encoder, dtype)
        self._empty = _unit(encoder.projection.bias.detach().cpu().float().numpy().copy())
        self._tokenize = encoder.tokenizer.encode_batch_fast

    @property
    def encoder(self) -> StaticEncoder:
        """The model as it was given."""
        return self._encoder

    @property
    def max_tokens(self) -> int:
        """A mean takes any number of tokens."""
        return NO_LIMIT

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
        """Text put before an input of this role: none, see ``leafkit.models.static_encoder``."""
        return ""

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""
        return Space(
            self.encoder.fingerprint,
            self.dim,
            "",
            max_tokens or NO_LIMIT,
            self.encoder.spec.pooling,
            normalized=True,
        )

    def embed_one(
        self, text: str, role: str = "query", max_tokens: int | None = None
    ) -> np.ndarray:
        """(D,) float32 vector of one text, cut at ``max_tokens`` (None and 0 do not cut); the same
        as ``embed`` gives, in any role.
        """
        ids = self._tokenize([text], add_special_tokens=False)[0].ids
        return self._look_up(ids[: max_tokens or None])

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts, cut at ``max_tokens``; the role makes no difference."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = texts[start : start + _TEXTS_PER_CALL]
            for row, ids in enumerate(self.encoder.tokenize(part, role, max_tokens), start):
                out[row] = self._look_up(ids)
            if bar is not None:
                bar.advance(len(part))
        return out

    def _look_up(self, ids: list[int]) -> np.ndarray:
        if not ids:
            return self._empty.copy()
        rows = self.table.take(ids, axis=0)
        return _unit(np.add.reduce(rows, axis=0, dtype=np.float32))


def fold_table(encoder: StaticEncoder, dtype: type[np.float32] | type[np.float16]) -> np.ndarray:
    """(V, D) the table times W_out plus bias, in C order."""
    table = encoder.table.weight
    folded = np.empty((len(table), encoder.dim), dtype=dtype)
    with torch.inference_mode():
        for start in range(0, len(table), _ROWS_PER_PRODUCT):
            part = table[start : start + _ROWS_PER_PRODUCT]
            folded[start : start + len(part)] = encoder.project(part).cpu().numpy()
    return folded


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector with length one; a zero vector stays zero. ``truncate_then_normalize`` is for
    matrices and twice as slow.
    """
    return vector / max(np.sqrt(vector @ vector), SMALLEST_NORM)
