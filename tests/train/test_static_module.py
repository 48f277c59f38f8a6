"""Training a table: the loss and its gradient by hand, only tokens that occur move, and it ends
where plain torch does.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tiny
import torch
from torch import nn

from leafkit.config import OptimizerConfig
from leafkit.core.errors import LeafkitError
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.train.batch_list import BatchList
from leafkit.train.fit import fit
from leafkit.train.optimizer import lr_share
from leafkit.train.static_module import PROJECTION_LR_SHARE, StaticBatch, StaticModule, join_texts

CPU = torch.device("cpu")
NUM_STEPS = 30


def settings(**changes) -> OptimizerConfig:
    values = {
        "lr": 0.3,
        "warmup_ratio": 0.1,
        "final_lr_ratio": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1e9,
    }
    return OptimizerConfig(**values | changes)


def parts(scale: float = 1.0, **changes) -> tuple[StaticModule, BatchList, StaticEncoder]:
    """A module, batches of eight texts (one of them empty) with random targets, and a copy of the
    encoder before training.
    """
    torch.manual_seed(0)
    tokenizer = bare_tokenizer(tiny.make_tokenizer())
    encoder = StaticEncoder(tokenizer, torch.randn(tokenizer.get_vocab_size(), 8), nn.Linear(8, 24))
    before = copy.deepcopy(encoder)
    texts = ["", *(query for query, _ in tiny.make_pairs(31))]
    token_ids = [np.array(ids, dtype=np.int32) for ids in encoder.tokenize(texts)]
    used, places = np.unique(np.concatenate(token_ids), return_inverse=True)
    ends = np.cumsum([len(ids) for ids in token_ids])[:-1]
    rows = np.split(places, ends)
    targets = scale * torch.nn.functional.normalize(torch.randn(len(texts), 24), dim=1).numpy()

    def make(step: int) -> StaticBatch:
        part = slice(8 * (step % 4), 8 * (step % 4) + 8)
        return join_texts(rows[part], targets[part], 8)

    return StaticModule(encoder, settings(**changes), used), BatchList(NUM_STEPS, make), before


def run(module: StaticModule, batches: BatchList) -> list[float]:
    losses = fit(module, batches, title="t", device=CPU, precision=torch.float32, seed=0)
    module.write_back()
    return losses


def test_a_batch_by_hand():
    batch = join_texts(
        [np.array([3, 1], np.int32), np.array([], np.int32), np.array([2], np.int32)],
        np.eye(3, dtype="f4"),
        3,
    )
    assert batch.rows_N.tolist() == [3, 1, 2]
    assert batch.starts_B.tolist() == [0, 2, 2]
    assert batch.targets_BD.shape == (3, 3)


def test_training_lowers_the_loss_and_leaves_the_encoder_trained():
    module, batches, before = parts()
    losses = run(module, batches)
    assert len(losses) == NUM_STEPS
    assert np.mean(losses[-4:]) < 0.6 * np.mean(losses[:4])
    encoder = module.encoder
    assert not encoder.training
    assert not torch.equal(encoder.projection.weight, before.projection.weight)
    assert encoder.table.weight.requires_grad


def test_only_tokens_that_occur_move():
    module, batches, before = parts()
    run(module, batches)
    moved = (module.encoder.table.weight != before.table.weight).any(dim=1).nonzero().flatten()
    assert torch.equal(moved, module.token_ids)
    assert 0 < len(moved) < len(before.table.weight)


def test_it_ends_where_plain_torch_on_the_whole_table_does():
    """The small table licenses itself: dense AdamW moves the other rows by weight decay alone, so
    there is none here.
    """
    module, batches, encoder = parts(weight_decay=0.0)
    losses = run(module, batches)
    s = settings(weight_decay=0.0)
    optimizer = torch.optim.AdamW(
        [
            {"params": [encoder.table.weight], "lr": s.lr},
            {"params": list(encoder.projection.parameters()), "lr": PROJECTION_LR_SHARE * s.lr},
        ],
        weight_decay=0.0,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: lr_share(step, s, NUM_STEPS)
    )
    expected = []
    for step in range(NUM_STEPS):
        batch = batches[step]
        texts = np.split(module.token_ids[batch.rows_N].numpy(), batch.starts_B[1:].tolist())
        vectors, targets = (
            encoder.finish(encoder(texts)),
            torch.nn.functional.normalize(batch.targets_BD, dim=1),
        )
        loss = (1 - (vectors * targets).sum(dim=1)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        expected.append(float(loss.detach()))
    assert losses == pytest.approx(expected, abs=1e-5)
    assert torch.allclose(module.encoder.table.weight, encoder.table.weight, atol=1e-4)
    assert torch.allclose(module.encoder.projection.weight, encoder.projection.weight, atol=1e-4)


def test_the_teachers_lengths_do_not_matter():
    assert run(*parts()[:2]) == pytest.approx(run(*parts(scale=7.0)[:2]), abs=1e-5)


def test_a_stand_in_of_weight_nothing_moves_nothing():
    module, batches, before = parts(weight_decay=0.0)
    run(
        module,
        BatchList(
            2, lambda step: join_texts([np.array([0])], batches[0].targets_BD[:1].numpy(), 8, 0.0)
        ),
    )
    assert torch.equal(module.encoder.table.weight, before.table.weight)


def test_targets_that_are_not_finite_stop_it():
    module, batches, _ = parts(scale=float("nan"))
    with pytest.raises(LeafkitError, match="the loss of step 0 is not finite"):
        run(module, batches)
