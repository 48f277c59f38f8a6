"""One contrastive batch with every signal on: rows of all kinds, the module, and its gradients. Run
by several processes (``python contrastive_case.py FOLDER``) it writes what each of them computed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tiny
import torch

from leafkit.config import (
    ContrastiveLossConfig,
    MixingConfig,
    OptimizerConfig,
    SoftLabelConfig,
)
from leafkit.data.batching import share_of_rank
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import PairBatch, TrainingTable, collate
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.fit import fit
from leafkit.train.world import read_world

SEED = 5
MIXING = MixingConfig(num_pairwise=2, num_listwise=2, beta=2.0, temperature=0.2)
LOSS = ContrastiveLossConfig(
    temperature=0.1,
    false_negative_margin=0.1,
    mrl_dims=[32, 16],
    mrl_weights=[1.0, 0.3],
    anchor_weight=0.6,
    focal_gamma=0.5,
    contrastive_weight=0.8,
    gor_weight=0.9,
)
SOFT_LABELS = SoftLabelConfig(kind="kl", weight=0.7, temperature=0.3)


@dataclass(frozen=True)
class Case:
    """What a stage's recipe says; ``has_soft`` rows bring soft labels."""

    loss: ContrastiveLossConfig = LOSS
    soft_labels: SoftLabelConfig = SOFT_LABELS
    mixing: MixingConfig = MIXING
    has_soft: bool = True
    chunk_tokens: int = 40


CASES = {
    "full": Case(),
    "mse, unchunked": Case(soft_labels=replace(SOFT_LABELS, kind="mse"), chunk_tokens=0),
    "soft labels alone": Case(
        loss=replace(LOSS, contrastive_weight=0.0, gor_weight=0.0, anchor_weight=0.0),
        mixing=MixingConfig(),
    ),
    "pairs only": Case(
        loss=replace(LOSS, false_negative_margin=2.0),
        mixing=replace(MIXING, num_listwise=0),
        has_soft=False,
    ),
    "lists only": Case(
        loss=replace(LOSS, focal_gamma=0.0),
        mixing=replace(MIXING, num_pairwise=0),
        has_soft=False,
    ),
    "plain": Case(
        loss=replace(LOSS, focal_gamma=0.0, gor_weight=0.0),
        mixing=MixingConfig(),
        has_soft=False,
        chunk_tokens=0,
    ),
}
# of the last, a second process encodes no document: the first has them all
BATCHES = [
    np.array([3, 0, 7, 5, 1, 6, 2, 4]),
    np.array([2, 8, 9, 10, 11, 0, 5, 7]),
    np.array([10, 1, 3, 9, 6, 8, 4, 11]),
    np.array([0, 5, 0, 5]),
]
ANCHORS = [
    "merge the queue twice",
    "which table",
    "split a string",
    "the first answer of the second graph",
]
# Row 5 shares row 0's positive, row 6 its query too; 9 is a negative of row 0 and answers row 1;
# rows 2, 4, 6, 9 and 11 have
# fewer than two negatives; rows 3 and 8 take no negatives from other rows.
POSITIVES = [0, 1, 2, 3, 4, 0, 15, 7, 8, 13, 14, 12]
NEGATIVES = [
    [8, 9, 10],
    [11, 12],
    [],
    [8, 13],
    [14],
    [9, 10],
    [],
    [0, 11, 13, 8],
    [1, 2],
    [3],
    [4, 5, 6],
    [],
]
RELEVANT = [[0, 15], [1, 9], [2], [3], [4], [0], [0, 15], [7], [8], [13, 12], [14], [12]]
IN_BATCH = [i not in {3, 8} for i in range(12)]


def make_table(encoder, soft: bool) -> TrainingTable:
    pairs = tiny.make_pairs(16)
    queries = [pairs[0 if i == 6 else i][0] for i in range(12)]
    chooser = np.random.default_rng(0)
    return TrainingTable(
        queries=encoder.tokenize(queries, "query"),
        documents=encoder.tokenize([document for _, document in pairs], "document"),
        positives=np.array(POSITIVES),
        negatives=[np.array(n, dtype=np.int64) for n in NEGATIVES],
        relevant=[np.array(r) for r in RELEVANT],
        in_batch=np.array(IN_BATCH),
        soft=[chooser.random(1 + len(n)) if soft else np.zeros(0) for n in NEGATIVES],
    )


class Recorded(ContrastiveModule):
    """Remembers the gradients of its first step."""

    gradients: torch.Tensor | None = None

    def configure_gradient_clipping(self, *args, **kwargs) -> None:
        if self.gradients is None:
            self.gradients = torch.cat([p.grad.flatten().clone() for p in self.parameters()])
        super().configure_gradient_clipping(*args, **kwargs)


def make_encoder():
    return tiny.make_encoder(seed=4)


def make_anchors(encoder) -> tuple[list[list[int]], torch.Tensor]:
    targets = torch.randn(len(ANCHORS), encoder.dim, generator=torch.Generator().manual_seed(1))
    return encoder.tokenize(ANCHORS, "query"), torch.nn.functional.normalize(targets, dim=1)


def make_batch(encoder, case: str, step: int, rank: int = 0, num_ranks: int = 1) -> PairBatch:
    chosen = CASES[case]
    ids, targets = make_anchors(encoder)
    mine = share_of_rank(np.arange(len(ids) if chosen.loss.anchor_weight else 0), rank, num_ranks)
    return collate(
        make_table(encoder, chosen.has_soft),
        BATCHES[step],
        chosen.mixing,
        seed=SEED,
        step=step,
        rank=rank,
        num_ranks=num_ranks,
        anchors=[ids[i] for i in mine],
        anchor_targets=targets[mine],
    )


def train(
    case: str, num_steps: int = len(BATCHES), precision: torch.dtype = torch.float32
) -> tuple[list[float], torch.Tensor]:
    """Losses of each step and the gradient of the first."""
    world, encoder = read_world(), make_encoder()
    chosen = CASES[case]
    optimizer = OptimizerConfig(
        lr=1e-3,
        warmup_ratio=0.2,
        final_lr_ratio=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
    )
    module = Recorded(
        encoder,
        optimizer,
        chosen.loss,
        soft_labels=chosen.soft_labels,
        mixing=chosen.mixing,
        chunk_tokens=chosen.chunk_tokens,
    )
    batches = BatchList(
        num_steps, lambda step: make_batch(encoder, case, step, world.rank, world.size)
    )
    losses = fit(
        module, batches, title="test", device=torch.device("cpu"), precision=precision, seed=7
    )
    return losses, module.gradients


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.save({case: train(case) for case in CASES}, Path(sys.argv[1]) / f"{read_world().rank}.pt")
