"""When the terms of a student's loss count: by hand, and what no schedule may be."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import TERMS, CandidatesConfig, OptimizerConfig, StudentConfig, StudentLosses
from leafkit.core.errors import UsageError
from leafkit.pipeline.student.transformer import plan_batches, plan_training
from leafkit.train.leaf_module import LeafBatch, LeafModule, ScoredRows
from leafkit.train.student_terms import check_terms, describe_schedule, weights_at, weights_of

NUM_STEPS = 8
# the distance until half of the training, then scores alone
ALIGN_THEN_RANK = StudentLosses(
    l2=3.0,
    score_kl=2.0,
    begin={"score_kl": 0.5},
    end={"l2": 0.5},
    candidates=CandidatesConfig(temperature=0.5),
)


def step(module: LeafModule, number: int, batch: LeafBatch) -> tuple[float, set[str]]:
    """Loss of a step of a training, and the terms that are logged as parts of it."""
    logged: dict[str, torch.Tensor] = {}
    module._trainer = SimpleNamespace(world_size=1, global_step=number)
    module.log = logged.__setitem__
    return float(module.training_step(batch).detach()), {name for name in logged if "score" in name}


def test_the_loss_of_each_step_by_hand() -> None:
    torch.manual_seed(0)
    encoder = tiny.make_encoder()
    module = LeafModule(encoder, OptimizerConfig(), NUM_STEPS, losses=ALIGN_THEN_RANK)
    module.record = lambda loss: None
    ids = encoder.tokenize(["a query", "another query of more words"], "query", 16)
    targets, candidates = torch.randn(2, encoder.dim), torch.randn(2, 3, encoder.dim)
    present = torch.ones(2, 3, dtype=torch.bool)
    batch = LeafBatch(
        ids, targets, 2, scored=ScoredRows(torch.tensor([0, 1]), candidates, present, 2)
    )
    with torch.no_grad():
        vectors = encoder.finish(encoder(ids))
    distance = 3.0 * float((vectors - targets).square().sum() / 2)
    theirs, ours = (
        torch.einsum("bkd,bd->bk", candidates, side) / 0.5 for side in (targets, vectors)
    )
    wanted = theirs.softmax(dim=1)
    divergence = 2.0 * float(
        (wanted * (theirs.log_softmax(dim=1) - ours.log_softmax(dim=1))).sum() / 2
    )
    for number in range(NUM_STEPS):
        loss, scores = step(module, number, batch)
        first = number < NUM_STEPS / 2
        assert loss == pytest.approx(distance if first else divergence, rel=1e-5), number
        assert scores == (set() if first else {"train/score_kl"})


def test_scores_on_two_processes_have_the_loss_of_one() -> None:
    torch.manual_seed(0)
    encoder = tiny.make_encoder()
    module = LeafModule(encoder, OptimizerConfig(), 1, losses=StudentLosses(score_kl=1.0))
    module.record = lambda loss: None
    module.log = lambda *parts: None
    ids = encoder.tokenize(["a", "a query", "another query", "the matrix"], "query", 16)
    targets, candidates = torch.randn(4, encoder.dim), torch.randn(4, 3, encoder.dim)
    present = torch.ones(4, 3, dtype=torch.bool)

    def loss(rows: list[int], world_size: int) -> float:
        """Of rows of which all but the first text are scored, 2.5 of four on average."""
        places = [place for place, row in enumerate(rows) if row]
        mine = [row for row in rows if row]
        scored = ScoredRows(torch.tensor(places), candidates[mine], present[mine], 2.5)
        module._trainer = SimpleNamespace(world_size=world_size, global_step=0)
        batch = LeafBatch([ids[row] for row in rows], targets[rows], 4, scored=scored)
        return float(module.training_step(batch).detach())

    two = (loss([0, 2], 2) + loss([1, 3], 2)) / 2
    assert two == pytest.approx(loss([0, 1, 2, 3], 1), rel=1e-5)


@pytest.mark.parametrize("world_size", [1, 2])
def test_gor_leaves_repeated_texts_of_a_batch_out(world_size) -> None:
    """Pairs of one text had the only inner products that l2 wants to be 1."""
    torch.manual_seed(0)
    encoder = tiny.make_encoder()
    module = LeafModule(encoder, OptimizerConfig(), 1, losses=StudentLosses(l2=0.0, gor=1.0))
    module.record = lambda loss: None
    texts = ["a query", "another query of more words", "a query"]
    targets = torch.randn(3, encoder.dim)
    targets[2] = targets[0]
    ids = encoder.tokenize(texts, "query", 16)
    module.log = lambda *parts: None
    module._trainer = SimpleNamespace(world_size=world_size, global_step=0)
    loss = module.training_step(LeafBatch(ids, targets, 3 * world_size))
    with torch.no_grad():
        vectors = encoder.finish(encoder(ids))
    assert float(loss.detach()) == pytest.approx(float((vectors[0] @ vectors[1]) ** 2), rel=1e-5)


def test_a_term_may_count_in_the_middle_alone() -> None:
    losses = StudentLosses(gor=1.0, begin={"gor": 0.25}, end={"gor": 0.5, "l2": 1.0})
    counted = [sorted(weights_at(losses, number / NUM_STEPS)) for number in range(NUM_STEPS)]
    assert counted == [["l2"]] * 2 + [["gor", "l2"]] * 2 + [["l2"]] * 4
    # a Trainer of more steps than were planned goes on with what has no end
    assert sorted(weights_at(losses, 1.5)) == ["l2"]
    assert describe_schedule(losses, 1) == "of 1 steps: l2 in steps 1 to 1, gor in none, too few"


def test_every_term_has_a_weight_that_can_be_scheduled() -> None:
    assert set(weights_of(StudentLosses())) == set(TERMS)
    for term in set(TERMS) - {"l2"}:
        losses = StudentLosses(**{term: 1.0}, begin={term: 0.5}, end={"l2": 0.5})
        check_terms(losses)
        assert [list(weights_at(losses, share)) for share in (0.25, 0.75)] == [["l2"], [term]]


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ({"begin": {"l2": 0.5}}, "no term counts between 0 and 0.5 of the steps"),
        ({"end": {"l2": 0.5}}, "no term counts between 0.5 and 1 of the steps"),
        (
            {"cosine": 1.0, "begin": {"cosine": 0.75}, "end": {"l2": 0.5}},
            "no term counts between 0.5 and 0.75 of the steps",
        ),
        (
            {"cosine": 1.0, "begin": {"cosine": 0.75}, "end": {"cosine": 0.5}},
            r"end\.cosine: the term begins at 0.75 of the steps and ends at 0.5, so it never",
        ),
        ({"end": {"l2": 0.0}}, r"end\.l2: the term begins at 0 of the steps and ends at 0, so"),
        ({"cosine": 1.0, "begin": {"cosine": 1.0}}, r"begin\.cosine: the term begins at 1 of"),
        ({"begin": {"gor": 0.5}}, r"begin\.gor: the term's weight is 0, so it never begins"),
        ({"end": {"gor": 0.5}}, r"end\.gor: the term's weight is 0, so it never ends"),
    ],
)
def test_a_schedule_with_a_gap_is_refused_and_the_gap_named(losses, reason) -> None:
    with pytest.raises(UsageError, match=reason):
        check_terms(StudentLosses(**losses))
    with pytest.raises(UsageError, match=reason):
        LeafModule(tiny.make_encoder(), OptimizerConfig(), losses=StudentLosses(**losses))


@pytest.mark.parametrize("num_accumulated", [1, 3])
def test_scores_alone_train_on_scored_texts_alone(num_accumulated) -> None:
    """Else every second batch of a training's second half would train nothing."""
    lengths, is_scored = np.full(60, 10), np.arange(60) % 3 == 0
    task = SimpleNamespace(
        config=StudentConfig(tokens_per_batch=40, num_epochs=2.0, losses=ALIGN_THEN_RANK), seed=1
    )
    plain = plan_batches(task, lengths)
    planned = plan_training(task, lengths, is_scored, num_accumulated)
    assert len(planned) == len(plain) == 30
    # 30 steps, or 10 of three batches each: half of both is behind batch 15
    for number, (batch, before) in enumerate(zip(planned, plain, strict=True)):
        if number < 15:
            assert np.array_equal(batch, before)
        else:
            assert is_scored[batch].all()
    seen = np.bincount(np.concatenate(planned[15:20]), minlength=60)  # a pass of 20 rows
    assert np.array_equal(seen, is_scored.astype(int))
    task.config = StudentConfig(tokens_per_batch=40, num_epochs=2.0)
    unscheduled = plan_training(task, lengths, is_scored, num_accumulated)
    assert all(np.array_equal(*pair) for pair in zip(unscheduled, plain, strict=True))
