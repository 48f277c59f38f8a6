"""One process's share of a contrastive batch: which texts it encodes, and how every column relates
to every row.

A pure function of (rows of the global batch, seed, step, rank): every process knows the whole
batch, so no masks travel.

Shapes: b rows of this process, C columns (documents of the global batch, by process), K candidates
    of a row (its positive and its hard negatives), E synthetic negatives of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from leafkit.config import MixingConfig
from leafkit.data.batching import share_of_rank
from leafkit.models.packed.grouping import TokenIds


@dataclass(frozen=True, slots=True)
class TrainingTable:
    """All rows of a stage as token ids and positions.

    Attributes:
        queries: (R,) token ids.
        documents: token ids of distinct texts.
        positives: (R,) positions in ``documents``.
        negatives: (R,) arrays of positions, as many as a row has.
        relevant: (R,) arrays of positions that are no negatives of the row, its positive among
            them.
        in_batch: (R,) whether other rows' documents are negatives.
        soft: (R,) a score for the positive and each negative; empty arrays without soft labels.
    """

    queries: TokenIds
    documents: TokenIds
    positives: np.ndarray
    negatives: Sequence[np.ndarray]
    relevant: Sequence[np.ndarray]
    in_batch: np.ndarray
    soft: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class MixingPlan:
    """What is mixed for each row: columns, shares, and which entries exist."""

    first: torch.Tensor  # (b, P) columns of n_1
    second: torch.Tensor  # (b, P) columns of n_2
    share: torch.Tensor  # (b, P) lambda
    listed: torch.Tensor  # (b, E - P, K - 1) hard negatives that take part in each listwise mixture
    masked: torch.Tensor  # (b, E) true where the row has too few hard negatives


@dataclass(frozen=True, slots=True)
class PairBatch:
    """One process's share of a contrastive batch.

    Attributes:
        queries: (b,) token ids.
        documents: token ids of the documents that this process encodes.
        num_columns: columns per process; documents are followed by padding up to it.
        is_padding: (C,) columns that hold no document.
        positives: (b,) column of each row's positive.
        masked: (b, C) columns that are no negatives of the row.
        own: (b, K) columns of the row's candidates, its positive first.
        present: (b, K) candidates that exist; absent ones point at the positive.
        soft: (b, K) scores of the candidates, 0 where absent; None without soft labels.
        mixing: None without synthetic negatives.
        anchors: token ids of texts held near where the start model put them.
        anchor_targets: (a, D) unit vectors of the start model.
        loss_weight: of the batch among those whose gradients are accumulated; see
            ``accumulation_weights``.
    """

    queries: TokenIds
    documents: TokenIds
    num_columns: int
    is_padding: torch.Tensor
    positives: torch.Tensor
    masked: torch.Tensor
    own: torch.Tensor
    present: torch.Tensor
    soft: torch.Tensor | None
    mixing: MixingPlan | None
    anchors: TokenIds
    anchor_targets: torch.Tensor
    loss_weight: float = 1.0


def collate(
    table: TrainingTable,
    batch: np.ndarray,
    mixing: MixingConfig,
    *,
    seed: int,
    step: int,
    rank: int = 0,
    num_ranks: int = 1,
    anchors: TokenIds = (),
    anchor_targets: torch.Tensor | None = None,
) -> PairBatch:
    """This process's share of a global batch.

    Each distinct document of the global batch is encoded once, by the first process whose rows need
    it.

    Args:
        table: all rows.
        batch: rows of the global batch.
        mixing: synthetic negatives wanted.
        seed: of what is mixed.
        step: of the batch; every step mixes anew.
        rank: this process.
        num_ranks: processes.
        anchors: this process's anchor texts.
        anchor_targets: their targets.
    """
    per_rank: list[list[int]] = []
    column_of: dict[int, tuple[int, int]] = {}
    for number in range(num_ranks):
        rows = share_of_rank(batch, number, num_ranks)
        needed = [int(table.positives[i]) for i in rows] + [
            int(d) for i in rows for d in table.negatives[i]
        ]
        new = [d for d in dict.fromkeys(needed) if d not in column_of]
        column_of |= {d: (number, place) for place, d in enumerate(new)}
        per_rank.append(new)
    width = max(map(len, per_rank))
    columns = {d: number * width + place for d, (number, place) in column_of.items()}
    is_padding = np.ones(num_ranks * width, dtype=bool)
    is_padding[list(columns.values())] = False

    own_rows = share_of_rank(batch, rank, num_ranks)
    candidates = [
        [columns[int(d)] for d in (table.positives[i], *table.negatives[i])] for i in own_rows
    ]
    own = np.array([row + row[:1] * (max(map(len, candidates)) - len(row)) for row in candidates])
    present = np.array([[k < len(row) for k in range(own.shape[1])] for row in candidates])
    masked = np.tile(is_padding, (len(own_rows), 1))
    for place, i in enumerate(own_rows):
        if not table.in_batch[i]:
            masked[place] = True
            masked[place, candidates[place]] = False
        masked[place, [columns[d] for d in map(int, table.relevant[i]) if d in columns]] = True
    soft = None
    if any(len(table.soft[i]) for i in batch):
        soft = np.zeros(own.shape, dtype=np.float32)
        for place, i in enumerate(own_rows):
            soft[place, : len(candidates[place])] = table.soft[i]
    return PairBatch(
        queries=[table.queries[i] for i in own_rows],
        documents=[table.documents[d] for d in per_rank[rank]],
        num_columns=width,
        is_padding=torch.from_numpy(is_padding),
        positives=torch.from_numpy(own[:, 0].copy()),
        masked=torch.from_numpy(masked),
        own=torch.from_numpy(own),
        present=torch.from_numpy(present),
        soft=None if soft is None else torch.from_numpy(soft),
        mixing=_plan_mixing(mixing, own, present, rows=own_rows, seed=seed, step=step),
        anchors=anchors,
        anchor_targets=torch.zeros(0) if anchor_targets is None else anchor_targets,
    )


def _plan_mixing(
    mixing: MixingConfig,
    own: np.ndarray,
    present: np.ndarray,
    *,
    rows: np.ndarray,
    seed: int,
    step: int,
) -> MixingPlan | None:
    """Draw what is mixed; each row has its own generator, so that its draw depends on no other row
    and no process.
    """
    if not mixing.num_pairwise + mixing.num_listwise:
        return None
    counts = present.sum(axis=1) - 1
    first, second = (np.repeat(own[:, :1], mixing.num_pairwise, axis=1) for _ in range(2))
    share = np.ones((len(rows), mixing.num_pairwise), dtype=np.float32)
    listed = np.zeros((len(rows), mixing.num_listwise, own.shape[1] - 1), dtype=bool)
    for place, (row, count) in enumerate(zip(rows, counts, strict=True)):
        if count < 2:
            continue
        generator = np.random.default_rng([seed, step, int(row)])
        for k in range(mixing.num_pairwise):
            first[place, k], second[place, k] = own[
                place, 1 + generator.choice(count, 2, replace=False)
            ]
        share[place] = generator.beta(mixing.beta, mixing.beta, mixing.num_pairwise)
        for k in range(mixing.num_listwise):
            # the first takes them all, the others a part
            size = count if k == 0 else generator.integers(2, count + 1)
            listed[place, k, generator.choice(count, size, replace=False)] = True
    too_few = np.repeat((counts < 2)[:, None], mixing.num_pairwise + mixing.num_listwise, axis=1)
    return MixingPlan(*(torch.from_numpy(x) for x in (first, second, share, listed, too_few)))
