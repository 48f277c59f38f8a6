"""Losses against a frozen index: cases by hand, padding, gradients, what they do and do not see."""

from __future__ import annotations

import doctest
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch.nn import functional

from leafkit.losses import prefixes, ranking, scores
from leafkit.losses.contrastive import info_nce
from leafkit.losses.leaf import leaf_loss
from leafkit.losses.prefixes import prefix_loss
from leafkit.losses.ranking import contrastive_loss, margin_mse, ranking_loss, triplet_loss
from leafkit.losses.scores import candidate_scores, in_batch_loss, score_kl, score_mse

B, K, D = 3, 5, 6
PRESENT = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [1, 1, 0, 0, 0]], dtype=torch.bool)
POSITIVE = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)


class Case(NamedTuple):
    """Vectors of a batch, unit and float64."""

    student: torch.Tensor
    teacher: torch.Tensor
    candidates: torch.Tensor
    positives: torch.Tensor


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(
        torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1
    )


def case() -> Case:
    return Case(unit(B, D), unit(B, D, seed=1), unit(B, K, D, seed=2), unit(B, D, seed=3))


# each loss of a case, on candidates of which some may be padding
Loss = Callable[[Case, "torch.Tensor | None"], torch.Tensor]
LOSSES: dict[str, Loss] = {
    "score_kl": lambda c, p: score_kl(c.student, c.teacher, c.candidates, 0.2, present=p),
    "score_mse": lambda c, p: score_mse(c.student, c.teacher, c.candidates, present=p),
    "triplet": lambda c, p: triplet_loss(c.student, c.positives, c.candidates, 0.3, present=p),
    "margin_mse": lambda c, p: margin_mse(
        c.student, c.teacher, c.positives, c.candidates, present=p
    ),
    "ranking": lambda c, p: ranking_loss(c.student, c.teacher, c.candidates, 0.2, top=3, present=p),
    "contrastive": lambda c, p: contrastive_loss(
        c.student, c.candidates, POSITIVE[: len(c.student)], 0.2, present=p
    ),
}
WITH_TEACHER = ("score_kl", "score_mse", "margin_mse", "ranking")


@pytest.mark.parametrize("module", [scores, ranking, prefixes])
def test_doctests(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


# --- by hand


def test_kl_by_hand():
    """tau = .5 on scores (ln 3, 0) / 2 and (0, 0): softmaxes (3/4, 1/4) and (1/2, 1/2), .75 log 1.5
    + .25 log .5; a second row that agrees adds nothing.
    """
    candidates = torch.eye(2)
    teacher = torch.tensor([[math.log(3) / 2, 0.0], [0.3, 0.1]])
    student = torch.tensor([[0.0, 0.0], [0.3, 0.1]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(score_kl(student, teacher, candidates, 0.5)) == pytest.approx(expected, rel=1e-5)


def test_mse_by_hand():
    """Scores (1, 0) against (.5, .5): (.25 + .25) / 2; the second row's (2, 0) against (0, 0)
    counts its one candidate: 4.
    """
    candidates = torch.eye(2)
    student = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    teacher = torch.tensor([[0.5, 0.5], [0.0, 0.0]])
    present = torch.tensor([[True, True], [True, False]])
    assert float(score_mse(student, teacher, candidates, present=present)) == 4.25


def test_in_batch_by_hand():
    """Similarities ((1, .6), (.6, 1)) and ((1, 0), (0, 1)): .36 in two of four places, each row's
    mean .18.
    """
    student = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert float(in_batch_loss(student, torch.eye(2))) == pytest.approx(0.36)


def test_triplet_by_hand():
    """v.p = .6; negatives at .8, .5 and 0 with a margin of .2: .4, .1 and 0, mean 1/6."""
    student = torch.tensor([[1.0, 0.0]])
    negatives = torch.tensor([[[0.8, 0.6], [0.5, 0.5], [0.0, 1.0]]])
    loss = triplet_loss(student, torch.tensor([[0.6, 0.8]]), negatives, 0.2)
    assert float(loss) == pytest.approx(0.5 / 3)


def test_margin_mse_by_hand():
    """Margins of the student .6 - .8 and .6 - 0, of the teacher .8 - .6 and .8 - 1: squared
    differences .16 and .64.
    """
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    negatives = torch.tensor([[[0.8, 0.6], [0.0, 1.0]]])
    loss = margin_mse(student, teacher, torch.tensor([[0.6, 0.8]]), negatives)
    assert float(loss) == pytest.approx(0.4)


def test_ranking_by_hand():
    """The teacher's order is c, a, b (scores .9, .5, .1), top = 2: gains 1, 1/2, 0, discounts 1,
    1/log2 3, 1/2.
    """
    candidates = torch.eye(3)
    teacher, student = torch.tensor([[0.5, 0.1, 0.9]]), torch.tensor([[1.0, 0.0, 0.5]])
    second = 1 / math.log2(3)
    weights = [0.5 * (1 - second), 1.0 * 0.5, 0.5 * (second - 0.5)]  # c a, c b, a b
    terms = [math.log1p(math.exp(x)) for x in (1.0, -1.0, -2.0)]  # tau = .5 on -.5, .5, 1
    expected = sum(w * t for w, t in zip(weights, terms, strict=True)) / sum(weights)
    assert float(ranking_loss(student, teacher, candidates, 0.5, top=2)) == pytest.approx(expected)


def test_ranking_is_the_sum_over_all_pairs_written_out():
    c, tau, top = case(), 0.3, 3
    expected = 0.0
    for v, t, docs in zip(c.student, c.teacher, c.candidates, strict=True):
        order = (docs @ t).argsort(descending=True).tolist()
        total = weight_sum = 0.0
        for (i, a), (j, b) in itertools.combinations(enumerate(order, start=1), 2):
            gain = max(0, 1 - (i - 1) / top) - max(0, 1 - (j - 1) / top)
            weight = gain * (1 / math.log2(1 + i) - 1 / math.log2(1 + j))
            total += weight * math.log1p(math.exp(-float((docs[a] - docs[b]) @ v) / tau))
            weight_sum += weight
        expected += total / weight_sum
    found = ranking_loss(c.student, c.teacher, c.candidates, tau, top=top)
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_contrastive_by_hand():
    """Scores 1, 0, 2 at tau = 1, the first two relevant: the mean of log(1 + e^(2 - 1)) and log(1 +
    e^(2 - 0)).
    """
    loss = contrastive_loss(
        torch.tensor([[1.0, 0.0, 2.0]]), torch.eye(3), torch.tensor([[True, True, False]]), 1.0
    )
    expected = (math.log1p(math.e) + math.log1p(math.e**2)) / 2
    assert float(loss) == pytest.approx(expected)


def test_contrastive_with_one_positive_is_info_nce():
    c, own = case(), torch.tensor([3, 0, 1])
    positives = functional.one_hot(own, K).bool()
    expected = B * info_nce(c.student, c.candidates[0], own, 0.1)
    found = contrastive_loss(c.student, c.candidates[0], positives, 0.1)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


def test_prefixes_by_hand():
    """First two components (3, 4) and (4, 3) of length 5: (.2^2 + .2^2); all three: lengths 5 and
    sqrt(50), the last one weighted by 2.
    """
    student, teacher = torch.tensor([[3.0, 4.0, 0.0]]), torch.tensor([[4.0, 3.0, 5.0]])
    whole = (0.6 - 4 / 50**0.5) ** 2 + (0.8 - 3 / 50**0.5) ** 2 + 0.5
    found = prefix_loss(student, teacher, [2, 3], [1.0, 2.0])
    assert float(found) == pytest.approx(0.08 + 2 * whole)


def test_the_widest_prefix_alone_is_the_leaf_loss():
    c = case()
    found = prefix_loss(c.student, c.teacher, [D], [1.0])
    assert float(found) == pytest.approx(float(leaf_loss(c.student, c.teacher)), rel=1e-6)


@pytest.mark.parametrize(
    ("dims", "weights", "message"),
    [
        ([D + 1], [1.0], "dim=7 is not between 1"),
        ([0], [1.0], "dim=0"),
        ([2, 3], [1.0], "argument"),
    ],
)
def test_prefixes_that_do_not_fit_are_refused(dims, weights, message):
    c = case()
    with pytest.raises(ValueError, match=message):
        prefix_loss(c.student, c.teacher, dims, weights)
    with pytest.raises(ValueError, match=r"shapes \(3, 6\) and \(3, 2\) differ"):
        prefix_loss(c.student, c.teacher[:, :2], [2], [1.0])


# --- what all of them share


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("present", [None, PRESENT])
def test_gradients_against_finite_differences(name, present):
    c = case()

    def loss(student: torch.Tensor) -> torch.Tensor:
        return LOSSES[name](c._replace(student=student), present)

    assert loss(c.student) > 0
    assert torch.autograd.gradcheck(loss, c.student.requires_grad_())


def test_gradients_of_the_losses_without_candidates():
    c = case()
    ours = c.student.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: in_batch_loss(v, c.teacher), ours)
    assert torch.autograd.gradcheck(lambda v: prefix_loss(v, c.teacher, [2, 5], [1.0, 3.0]), ours)


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_a_sum_over_rows(name):
    c, loss = case(), LOSSES[name]
    whole = float(loss(c, PRESENT))
    if name == "contrastive":  # its labels are of the first rows
        parts = [Case(*(t[: i + 1] for t in c)) for i in range(B)]
        sums = [float(loss(part, PRESENT[: len(part.student)])) for part in parts]
        assert sums[-1] == whole
        assert sums == sorted(sums)
        assert sums[0] > 0
        return
    rows = [float(loss(Case(*(t[i : i + 1] for t in c)), PRESENT[i : i + 1])) for i in range(B)]
    assert sum(rows) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("rubbish", [0.0, 100.0, float("nan"), float("inf")])
def test_what_stands_in_padded_places_counts_for_nothing(name, rubbish):
    c, loss = case(), LOSSES[name]
    student = c.student.requires_grad_()
    expected = loss(c, PRESENT)
    (gradient,) = torch.autograd.grad(expected, student)
    padded = c.candidates.masked_fill(~PRESENT[..., None], rubbish)
    found = loss(c._replace(candidates=padded), PRESENT)
    (same,) = torch.autograd.grad(found, student)
    assert found.item() == expected.item()
    assert torch.equal(same, gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_are_as_if_padding_had_never_been_there(name):
    """The second row has candidates 0, 2 and 3 alone."""
    c, kept = case(), [0, 2, 3]
    row = Case(c.student[1:2], c.teacher[1:2], c.candidates[1:2], c.positives[1:2])
    short = row._replace(candidates=row.candidates[:, kept])
    if name == "contrastive":
        labels = POSITIVE[1:2]
        found = contrastive_loss(row.student, row.candidates, labels, 0.2, present=PRESENT[1:2])
        expected = contrastive_loss(short.student, short.candidates, labels[:, kept], 0.2)
    else:
        found, expected = LOSSES[name](row, PRESENT[1:2]), LOSSES[name](short, None)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_anything_to_compare_add_nothing_and_pass_finite_gradients(name):
    c = case()
    student = c.student.requires_grad_()
    loss = LOSSES[name](c, torch.zeros(B, K, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0.0
    assert not gradient.any()


@pytest.mark.parametrize("name", WITH_TEACHER)
def test_a_student_at_the_teachers_place_has_nothing_to_learn(name):
    c = case()
    student = c.teacher.clone().requires_grad_()
    loss = LOSSES[name](c._replace(student=student), PRESENT)
    (gradient,) = torch.autograd.grad(loss, student)
    if name == "ranking":  # a pair in the right order may still be drawn further apart
        assert loss.item() < float(LOSSES[name](c._replace(student=-c.teacher), PRESENT))
    else:
        assert loss.item() == pytest.approx(0.0, abs=1e-12)
        assert gradient.abs().max() < 1e-9


@pytest.mark.parametrize("name", LOSSES)
def test_teacher_and_documents_are_constant(name):
    c = Case(*(t.requires_grad_() for t in case()))
    LOSSES[name](c, None).backward()
    assert c.student.grad is not None
    assert [t.grad for t in (c.teacher, c.candidates, c.positives)] == [None] * 3


@pytest.mark.parametrize("name", ["score_kl", "score_mse", "ranking"])
def test_shared_candidates_are_the_same_as_each_rows_own(name):
    c = case()
    shared = c._replace(candidates=c.candidates[0])
    repeated = c._replace(candidates=c.candidates[:1].expand(B, K, D))
    for present in (None, PRESENT):
        found, expected = (float(LOSSES[name](x, present)) for x in (shared, repeated))
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_and_autocast_are_computed_in_float32(name):
    half = Case(*(t.half() for t in case()))
    single = Case(*(t.float() for t in half))
    expected = LOSSES[name](single, PRESENT)
    for found in (
        LOSSES[name](half, PRESENT),
        LOSSES[name](single._replace(candidates=half.candidates), PRESENT),
    ):
        assert found.dtype == torch.float32
        assert float(found) == float(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(LOSSES[name](single, PRESENT)) == float(expected)


def test_half_precision_without_candidates():
    half = Case(*(t.half() for t in case()))
    ours, theirs = half.student, half.teacher
    for loss in (in_batch_loss, lambda v, t: prefix_loss(v, t, [2, 6], [1.0, 1.0])):
        assert loss(ours, theirs).dtype == torch.float32
        assert float(loss(ours, theirs)) == float(loss(ours.float(), theirs.float()))


def test_in_batch_does_not_see_a_rotation_and_scores_do():
    c = case()
    turn = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0]
    turned = c.teacher @ turn
    assert float(in_batch_loss(turned, c.teacher)) == pytest.approx(0.0, abs=1e-12)
    assert float(score_mse(turned, c.teacher, c.candidates)) > 0.01
    assert float(score_mse(turned, c.teacher, c.teacher)) > 0.01


def test_candidates_that_the_teacher_scores_alike_have_no_order():
    candidates = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    student = torch.tensor([[0.3, 0.7]], requires_grad=True)
    loss = ranking_loss(student, torch.tensor([[1.0, 0.0]]), candidates, 0.1)
    loss.backward()
    assert loss.item() == 0.0
    assert not student.grad.any()


def test_pairs_behind_the_top_have_no_weight():
    candidates = torch.eye(4)
    teacher = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    right, wrong = torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[4.0, 3.0, 1.0, 2.0]])

    first = ranking_loss(right, teacher, candidates, 1.0, top=1)
    assert float(first) == pytest.approx(
        sum((1 - 1 / math.log2(1 + r)) * math.log1p(math.exp(-(r - 1))) for r in (2, 3, 4))
        / sum(1 - 1 / math.log2(1 + r) for r in (2, 3, 4))
    )
    assert float(ranking_loss(wrong, teacher, candidates, 1.0, top=4)) > float(
        ranking_loss(right, teacher, candidates, 1.0, top=4)
    )


@pytest.mark.parametrize(
    "loss", [lambda *args: score_kl(*args, 0.05), lambda *args: ranking_loss(*args, 0.05)]
)
def test_descent_on_scores_finds_the_teachers_documents(loss):
    """What the losses are for: steps of one query's vector, documents still."""
    documents, teacher = unit(1, 40, 8, seed=5), unit(1, 8, seed=6)
    wanted = set((documents[0] @ teacher[0]).topk(10).indices.tolist())
    student = unit(1, 8, seed=7).requires_grad_()
    optimizer = torch.optim.Adam([student], lr=0.1)

    def overlap() -> int:
        return len(wanted & set((documents[0] @ student[0]).topk(10).indices.tolist()))

    assert overlap() <= 2
    for _ in range(100):
        optimizer.zero_grad()
        loss(functional.normalize(student, dim=-1), teacher, documents).backward()
        optimizer.step()
    assert overlap() >= 7
    assert functional.cosine_similarity(student.detach(), teacher).item() > 0.85


def test_scores_of_ids_with_minus_one():
    """How a caller gathers candidates: -1 pads, and any row may stand in its place."""
    store, ids = unit(7, D), torch.tensor([[2, -1, 5], [0, 1, -1]])
    found = candidate_scores(unit(2, D, seed=1), store[ids.clamp_min(0)], ids >= 0)
    expected = (unit(2, D, seed=1) @ store.T).tolist()
    assert found[0].tolist() == pytest.approx([expected[0][2], 0.0, expected[0][5]])
    assert found[1].tolist() == pytest.approx([*expected[1][:2], 0.0])
