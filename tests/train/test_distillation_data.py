"""Batches of the data module: every text once per pass, passes of one length, shares, bad input."""

from __future__ import annotations

import doctest
from types import SimpleNamespace

import numpy as np
import pytest
import tiny

from leafkit.config import OptimizerConfig, StudentLosses
from leafkit.core.errors import UsageError
from leafkit.train import batch_list, distillation_data
from leafkit.train.distillation_data import DistillationData, with_count
from leafkit.train.leaf_module import LeafModule

TEXTS = [document for _, document in tiny.make_pairs(60)]
VECTORS = np.random.default_rng(0).standard_normal((60, 32)).astype(np.float32)


def attach(data: DistillationData, rank: int = 0, world_size: int = 1) -> DistillationData:
    """Set up as a Trainer of this many processes would."""
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(encoder=tiny.make_encoder()),
        global_rank=rank,
        world_size=world_size,
    )
    data.setup("fit")
    return data


@pytest.mark.parametrize("module", [batch_list, distillation_data])
def test_doctests(module):
    assert doctest.testmod(module).attempted > 0
    assert doctest.testmod(module).failed == 0


def test_terms_over_scores_have_no_candidates_here():
    module = LeafModule(
        tiny.make_encoder(), OptimizerConfig(), losses=StudentLosses(l2=1, score_kl=1)
    )
    data = DistillationData(TEXTS, VECTORS)
    data.trainer = SimpleNamespace(lightning_module=module, global_rank=0, world_size=1)
    with pytest.raises(UsageError, match="score_kl is over the scores of documents"):
        data.setup("fit")


def test_every_text_is_seen_once_per_pass_with_its_own_vector():
    data = attach(DistillationData(TEXTS, VECTORS, tokens_per_batch=120))
    of_ids = {
        tuple(ids): vector
        for ids, vector in zip(
            tiny.make_encoder().tokenize(TEXTS, "document"), VECTORS, strict=True
        )
    }
    orders = []
    for epoch in (0, 1):
        seen = []
        for batch in (data.make_pass(epoch)[i] for i in range(data.num_batches)):
            for ids, target in zip(batch.token_ids, batch.targets.numpy(), strict=True):
                assert np.array_equal(of_ids[tuple(ids)], target)
                seen.append(tuple(ids))
        assert sorted(seen) == sorted(of_ids)
        orders.append(seen)
    assert orders[0] != orders[1]


def test_the_shares_of_processes_make_up_the_batch():
    whole = attach(DistillationData(TEXTS, VECTORS, tokens_per_batch=60)).make_pass(0)
    parts = [
        attach(DistillationData(TEXTS, VECTORS, tokens_per_batch=60), rank, 3).make_pass(0)
        for rank in range(3)
    ]
    for i in range(len(whole)):
        shares = [part[i] for part in parts]
        assert {share.num_global_rows for share in shares} == {len(whole[i].token_ids)}
        joined = [tuple(ids) for share in shares if share.weight for ids in share.token_ids]
        assert sorted(joined) == sorted(map(tuple, whole[i].token_ids))
    assert any(part[i].weight == 0.0 for part in parts for i in range(len(whole)))


@pytest.mark.parametrize("count", [5, 8, 9, 20])
def test_a_pass_of_another_length_keeps_its_rows(count):
    order = np.random.default_rng(1).permutation(20)
    batches = np.split(order, [3, 4, 9, 10, 13, 15, 18])
    found = with_count(batches, count)
    assert len(found) == count
    assert min(map(len, found)) > 0
    assert sorted(np.concatenate(found)) == list(range(20))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TEXTS, VECTORS[:-1]), "60 texts and 59 vectors"),
        (([], VECTORS[:0]), "no text to train on"),
    ],
)
def test_texts_and_vectors_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        DistillationData(*arguments)


def test_queries_need_vectors():
    with pytest.raises(UsageError, match="queries without query_vectors"):
        DistillationData(TEXTS, VECTORS, queries=["a"])


def test_vectors_of_another_dimension_are_refused():
    with pytest.raises(UsageError, match="the student's have 32 dimensions"):
        attach(DistillationData(TEXTS, VECTORS[:, :16]))


def test_a_vector_that_is_not_finite_is_named():
    vectors = VECTORS.copy()
    vectors[17, 3] = np.nan
    with pytest.raises(UsageError, match=r"teacher vector 17 \(role document\) is not finite"):
        attach(DistillationData(TEXTS, vectors))
