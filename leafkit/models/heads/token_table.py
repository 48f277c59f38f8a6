"""A table of token vectors beside the transformer: the mean over a text's tokens, which W_out reads
side by side with the hidden states.

A mean of vectors is a linear map of how often each token is there. Hidden states of a small model
do not hold on to every word; the table does, and costs a lookup.

Shapes: B texts, T tokens, V tokens of the vocabulary, K rows, R dimensions of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from leafkit.core.devices import send
from leafkit.core.errors import LeafkitError
from leafkit.models.packed.grouping import TokenIds

TABLE_FILE = "token_table.safetensors"
_AGAIN = "write or download the model again"


class TokenTable(nn.Module):
    """(B, R) means of the vectors of each text's tokens. A token without a row counts as zeros.

    Args:
        token_ids: (K,) those that have a row, each once.
        rows: (K, R) their vectors.
        num_tokens: V; every id is below it.
    """

    places: torch.Tensor

    def __init__(self, token_ids: torch.Tensor, rows: torch.Tensor, num_tokens: int) -> None:
        super().__init__()
        # one more than the number of the row; 0 for a token without one
        places = torch.zeros(num_tokens, dtype=torch.int32)
        places[token_ids] = torch.arange(1, len(token_ids) + 1, dtype=torch.int32)
        self.register_buffer("places", places)
        self.rows = nn.Parameter(rows.detach().float().clone())

    @property
    def out_features(self) -> int:
        """R."""
        return int(self.rows.shape[1])

    @property
    def token_ids(self) -> torch.Tensor:
        """(K,) int64, in the order of the rows."""
        places = self.places.cpu()
        known = torch.nonzero(places).squeeze(1)
        return known[torch.argsort(places[known])]

    def forward(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, R) float32 of texts of one token at least."""
        lengths = np.array([len(ids) for ids in token_ids])
        flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        shares = np.repeat(1.0 / lengths, lengths).astype(np.float32)
        device = self.rows.device
        ids, begins, weights = (send(torch.from_numpy(x), device) for x in (flat, starts, shares))
        places = self.places[ids].long()
        # a token without a row points to the first one, and weighs nothing
        weights = weights * (places > 0)
        rows = self.rows.float()
        with torch.autocast(device.type, enabled=False):
            return nn.functional.embedding_bag(
                (places - 1).clamp_min(0), rows, begins, mode="sum", per_sample_weights=weights
            )

    def look_up(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(B, T, R) vectors of tokens, zeros of those without a row, in operations of graphs."""
        places = self.places[input_ids].long()
        vectors = nn.functional.embedding((places - 1).clamp_min(0), self.rows)
        return vectors * (places > 0).unsqueeze(-1).to(vectors.dtype)


def write_token_table(table: TokenTable, folder: Path) -> None:
    """Write a table into a model's folder, float32."""
    weights = {
        "token_ids": table.token_ids.contiguous(),
        "rows": table.rows.detach().float().cpu().contiguous(),
    }
    save_file(weights, folder / TABLE_FILE)


def read_token_table(folder: Path, dim: int, num_tokens: int) -> TokenTable:
    """The table in a model's folder.

    Args:
        folder: of the model.
        dim: R that the head reads.
        num_tokens: V.

    Raises:
        LeafkitError: the file is missing, damaged, or of another model.
    """
    path = folder / TABLE_FILE
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as err:
        what = (str(err).splitlines() or [""])[0]
        raise LeafkitError(
            f"{path}: the table of token vectors cannot be loaded: {what}",
            f"without it vectors are wrong; {_AGAIN}",
        ) from err
    if fault := _find_fault(weights, dim, num_tokens):
        raise LeafkitError(f"{path}: {fault}", _AGAIN)
    return TokenTable(weights["token_ids"], weights["rows"], num_tokens)


def _find_fault(weights: Mapping[str, torch.Tensor], dim: int, num_tokens: int) -> str:
    if set(weights) != {"token_ids", "rows"}:
        return f"it holds {', '.join(sorted(weights)) or 'nothing'}, not token_ids and rows"
    ids, rows = weights["token_ids"], weights["rows"]
    if ids.dtype != torch.int64 or ids.ndim != 1 or rows.shape != (len(ids), dim) or not len(ids):
        return (
            f"token_ids {tuple(ids.shape)} and rows {tuple(rows.shape)} are not numbers of tokens "
            f"and a vector of {dim} dimensions for each"
        )
    if int(ids.min()) < 0 or int(ids.max()) >= num_tokens or len(torch.unique(ids)) < len(ids):
        return f"its tokens are not each another one of the vocabulary's {num_tokens:,}"
    if not bool(torch.isfinite(rows).all()):
        return "a vector is not finite"
    return ""
