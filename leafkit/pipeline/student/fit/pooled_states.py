"""A start's pooled hidden states, and what is read beside them, each text encoded once for all that
is fitted to them, by one of the processes of a launch.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from leafkit.data.batching import share_of_rank
from leafkit.data.stored.flat_tokens import FlatTokens
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.student.targets import Distillation
from leafkit.pipeline.student.validation import TokenIds
from leafkit.train.world import read_world

Row = tuple[int, int]  # number of the target, number of its text


class PooledStates:
    """States by row; what was asked for before is not encoded again. The backbone must stay as it
    is.

    Args:
        student: whose backbone encodes; a table of token vectors that it gets later is read too.
        task: device and precision.
        token_ids: of the student, by target.
    """

    def __init__(self, student: TextEncoder, task: Distillation, token_ids: TokenIds) -> None:
        backbone_alone = copy.copy(student)
        backbone_alone._modules = dict(student._modules)
        backbone_alone.token_table = None
        self._embedder = TransformerEmbedder(backbone_alone, task.device, task.precision)
        self._student = student
        self._token_ids = token_ids
        self._known: dict[Row, np.ndarray] = {}
        self._width = backbone_alone.hidden_size

    def has(self, row: Row) -> bool:
        """Whether a row's states are there already."""
        return row in self._known

    def are_of(self, token_ids: FlatTokens, target: int, width: int) -> bool:
        """Whether states of this width, of these tokens, are those of a target's texts."""
        return width == self._width and token_ids.equals(self._token_ids[target])

    def ids_of(self, rows: Sequence[Row]) -> list[np.ndarray]:
        """The student's tokens of rows."""
        return [self._token_ids[g][i] for g, i in rows]

    def of(self, rows: Sequence[Row]) -> np.ndarray:
        """(n, H) float32 of rows, what the student's head reads: states, and the mean of the token
        vectors where it has a table.
        """
        states, table = self.bare(rows), self._student.token_table
        if table is None:
            return states
        with torch.no_grad():
            beside = table(self.ids_of(rows)).cpu().numpy()
        return np.concatenate([states, beside], axis=1)

    def bare(self, rows: Sequence[Row]) -> np.ndarray:
        """(n, H) float32 states of rows alone; of several processes each encodes a part of what is
        missing, and all must ask for the same rows.
        """
        missing = [row for row in dict.fromkeys(rows) if row not in self._known]
        if missing:
            encoded = self._encode(missing)
            self._known.update(zip(missing, encoded, strict=True))
            if len(missing) == len(rows):
                return encoded  # rows of many units are not to be there twice
        return np.stack([self._known[row] for row in rows])

    def _encode(self, rows: Sequence[Row]) -> np.ndarray:
        """(n, H) states."""
        world = read_world()
        is_shared = world.size > 1 and torch.distributed.is_initialized()
        places = np.arange(len(rows))
        if is_shared:
            places = share_of_rank(places, world.rank, world.size)
        token_ids = self.ids_of([rows[place] for place in places.tolist()])
        own = self._embedder.embed_ids(token_ids, pooled_only=True)
        if not is_shared:
            return own
        states = torch.zeros(len(rows), self._width)
        states[torch.from_numpy(places)] = torch.from_numpy(own)
        torch.distributed.all_reduce(states)  # every row is one process's; the others add zeros
        found: np.ndarray = states.numpy()
        return found
