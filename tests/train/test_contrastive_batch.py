"""Columns and masks of a batch against a slow reference, over one to three processes; what mixing
draws.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from leafkit.config import MixingConfig
from leafkit.train.contrastive_batch import PairBatch, TrainingTable, collate

NUM_DOCUMENTS = 14
NO_MIXING = MixingConfig()


def random_table(
    seed: int, num_rows: int = 12, in_batch: bool | None = True, soft: bool = True
) -> TrainingTable:
    """Few documents for many rows: shared positives, negatives that answer other rows, several
    positives per query.

    Token ids are numbers of their own, so that a text's ids say which one it is. ``in_batch`` None
    mixes both kinds.
    """
    chooser = np.random.default_rng(seed)
    query_of_row = chooser.integers(0, num_rows // 2, num_rows)  # the same query in several rows
    relevant_of = {
        q: chooser.choice(NUM_DOCUMENTS, chooser.integers(1, 4), replace=False)
        for q in range(num_rows)
    }
    relevant = [np.sort(relevant_of[q]) for q in query_of_row]
    negatives = []
    for row in range(num_rows):
        others = np.setdiff1d(np.arange(NUM_DOCUMENTS), relevant[row])
        negatives.append(chooser.choice(others, chooser.integers(0, 5), replace=False))
    return TrainingTable(
        queries=[[1000 + int(q)] for q in query_of_row],
        documents=[[d] for d in range(NUM_DOCUMENTS)],
        positives=np.array([chooser.choice(r) for r in relevant]),
        negatives=negatives,
        relevant=relevant,
        in_batch=chooser.random(num_rows) < 0.5
        if in_batch is None
        else np.full(num_rows, in_batch),
        soft=[chooser.random(1 + len(n)) if soft else np.zeros(0) for n in negatives],
    )


def table_of(positives, negatives, relevant=None, soft=None, in_batch=True) -> TrainingTable:
    """A table by hand; a row's relevant documents are its positive unless said otherwise."""
    return TrainingTable(
        queries=[[1000 + i] for i in range(len(positives))],
        documents=[[d] for d in range(NUM_DOCUMENTS)],
        positives=np.array(positives),
        negatives=[np.array(n, dtype=np.int64) for n in negatives],
        relevant=[np.array(r) for r in relevant or [[p] for p in positives]],
        in_batch=np.full(len(positives), in_batch),
        soft=soft or [np.zeros(0)] * len(positives),
    )


def shares(
    table: TrainingTable,
    batch: np.ndarray,
    num_ranks: int,
    mixing: MixingConfig = NO_MIXING,
    step: int = 0,
) -> list[PairBatch]:
    return [
        collate(table, batch, mixing, seed=5, step=step, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]


def documents_of_columns(parts: list[PairBatch]) -> list[int]:
    """The document in each column; -1 for padding."""
    columns: list[int] = []
    for part in parts:
        held = [ids[0] for ids in part.documents]
        columns += held + [-1] * (part.num_columns - len(held))
    return columns


def is_negative(table: TrainingTable, row: int, document: int, batch: np.ndarray) -> bool:
    """Word for word: a document somebody in the batch brings, that does not answer the row, where
    the row takes it.
    """
    brought = {int(table.positives[i]) for i in batch} | {
        int(d) for i in batch for d in table.negatives[i]
    }
    if document not in brought or document in table.relevant[row]:
        return False
    return bool(table.in_batch[row]) or document in table.negatives[row]


@pytest.mark.parametrize("num_ranks", [1, 2, 3])
@pytest.mark.parametrize("in_batch", [True, False, None])
@pytest.mark.parametrize("seed", range(8))
def test_every_column_of_every_row_is_what_the_reference_says(seed, in_batch, num_ranks):
    table = random_table(seed, in_batch=in_batch)
    batch = np.random.default_rng(seed).choice(12, 6, replace=False)
    parts = shares(table, batch, num_ranks)
    columns = documents_of_columns(parts)
    held = [d for d in columns if d >= 0]
    brought = {int(table.positives[i]) for i in batch} | {
        int(d) for i in batch for d in table.negatives[i]
    }
    assert sorted(held) == sorted(brought)  # each once, none missing
    for rank, part in enumerate(parts):
        rows = batch[rank::num_ranks]
        assert part.num_columns == max(len(p.documents) for p in parts)
        assert part.is_padding.tolist() == [d < 0 for d in columns]
        assert part.masked.shape == (len(rows), len(columns))
        assert part.queries == [table.queries[i] for i in rows]
        for place, row in enumerate(rows):
            positive = int(part.positives[place])
            assert columns[positive] == table.positives[row]
            # info_nce never masks the positive
            negative = {
                columns[c]
                for c in range(len(columns))
                if not bool(part.masked[place, c]) and c != positive
            }
            assert negative == {d for d in held if is_negative(table, row, d, batch)}
            assert not any(
                bool(part.masked[place, c]) is False for c, d in enumerate(columns) if d < 0
            )
            candidates = [int(table.positives[row]), *map(int, table.negatives[row])]
            own, present = part.own[place].tolist(), part.present[place].tolist()
            assert present == [k < len(candidates) for k in range(len(own))]
            assert [columns[c] for c in own] == candidates + candidates[:1] * (
                len(own) - len(candidates)
            )
            expected = np.zeros(len(own), dtype=np.float32)
            expected[: len(candidates)] = table.soft[row]
            assert part.soft[place].tolist() == expected.tolist()


def test_a_document_is_encoded_by_the_first_process_that_needs_it():
    """Rows 0 and 2 are process 0's, rows 1 and 3 process 1's; positives come first, then hard
    negatives.
    """
    table = table_of([0, 1, 0, 2], [[1], [3], [], [0, 1]])
    first, second = shares(table, np.arange(4), 2)
    assert [first.documents, second.documents] == [[[0], [1]], [[2], [3]]]
    assert second.positives.tolist() == [1, 2]
    assert second.own.tolist() == [[1, 3, 1], [2, 0, 1]]


def test_a_process_whose_documents_are_all_known_encodes_none():
    table = table_of([0, 0], [[1, 2], [2]])
    first, second = shares(table, np.arange(2), 2)
    assert (len(first.documents), len(second.documents), second.num_columns) == (3, 0, 3)
    assert second.is_padding.tolist() == [False] * 3 + [True] * 3
    assert second.masked.tolist() == [[True, False, False, True, True, True]]


def test_a_negative_of_mine_that_answers_another_row_is_no_negative_there():
    """Document 5 is hard for row 0 and relevant to row 1, though not its positive."""
    part = collate(
        table_of([0, 1], [[5], []], [[0], [1, 5]]), np.arange(2), NO_MIXING, seed=0, step=0
    )
    assert part.documents == [[0], [1], [5]] or part.documents == [[0], [5], [1]]
    five = part.documents.index([5])
    assert part.masked[:, five].tolist() == [False, True]


def test_the_same_row_twice_is_no_negative_of_itself():
    part = collate(table_of([0, 1], [[2], []]), np.array([0, 0, 1]), NO_MIXING, seed=0, step=0)
    assert sorted(part.documents) == [[0], [1], [2]]
    assert part.positives[0] == part.positives[1]
    assert torch.equal(part.masked[0], part.masked[1])


def test_without_negatives_there_is_one_candidate():
    part = collate(
        table_of([0, 1, 2], [[], [], []]), np.arange(3), MixingConfig(2, 1), seed=0, step=0
    )
    assert part.own.shape == part.present.shape == (3, 1)
    assert part.mixing.masked.all()
    assert part.mixing.first.shape == (3, 2)
    assert part.mixing.listed.shape == (3, 1, 0)


def test_soft_labels_are_there_for_every_process_or_for_none():
    """A process alone with unscored rows would weigh the term otherwise than the others: it fails,
    with the rest.
    """
    assert (
        collate(random_table(0, soft=False), np.arange(6), NO_MIXING, seed=0, step=0).soft is None
    )
    table = table_of([0, 1], [[2], [3]], soft=[np.array([1.0, 0.5]), np.zeros(0)])
    with pytest.raises(ValueError, match="broadcast"):
        collate(table, np.arange(2), NO_MIXING, seed=0, step=0, rank=1, num_ranks=2)


def test_anchors_are_passed_on():
    part = collate(
        random_table(0),
        np.arange(4),
        NO_MIXING,
        seed=0,
        step=0,
        anchors=[[7, 8]],
        anchor_targets=torch.ones(1, 3),
    )
    assert (part.anchors, part.anchor_targets.tolist()) == ([[7, 8]], [[1.0, 1.0, 1.0]])
    assert len(collate(random_table(0), np.arange(4), NO_MIXING, seed=0, step=0).anchors) == 0


def test_mixing_is_left_out_where_none_is_wanted():
    assert collate(random_table(0), np.arange(4), NO_MIXING, seed=0, step=0).mixing is None


def draws(
    table: TrainingTable,
    batch: np.ndarray,
    mixing: MixingConfig,
    step: int = 0,
    seed: int = 5,
    num_ranks: int = 1,
) -> dict:
    """What each row draws, in documents instead of columns: independent of where rows and columns
    lie.
    """
    parts = [
        collate(table, batch, mixing, seed=seed, step=step, rank=rank, num_ranks=num_ranks)
        for rank in range(num_ranks)
    ]
    columns = documents_of_columns(parts)
    found = {}
    for rank, part in enumerate(parts):
        plan = part.mixing
        for place, row in enumerate(batch[rank::num_ranks]):
            hard = [columns[c] for c in part.own[place, 1:]]
            pairs = [
                (columns[a], columns[b])
                for a, b in zip(plan.first[place], plan.second[place], strict=True)
            ]
            lists = [
                [d for d, is_in in zip(hard, listed, strict=True) if is_in]
                for listed in plan.listed[place]
            ]
            found[int(row)] = (
                pairs,
                plan.share[place].tolist(),
                lists,
                plan.masked[place].tolist(),
            )
    return found


@pytest.mark.parametrize("seed", range(5))
def test_only_a_rows_own_hard_negatives_are_mixed(seed):
    table = random_table(seed)
    for row, (pairs, share, lists, masked) in draws(
        table, np.arange(12), MixingConfig(3, 2)
    ).items():
        own = set(table.negatives[row].tolist())
        assert masked == [len(own) < 2] * 5
        if len(own) >= 2:
            assert all({a, b} <= own and a != b for a, b in pairs)
            assert all(0 < s < 1 for s in share)
            assert set(lists[0]) == own
            assert set(lists[1]) <= own
            assert len(lists[1]) >= 2
        else:
            assert pairs == [(table.positives[row], table.positives[row])] * 3
            assert lists == [[], []]


@pytest.mark.parametrize("num_ranks", [2, 3])
def test_what_a_row_draws_depends_on_no_other_row_and_no_process(num_ranks):
    table, mixing = random_table(1), MixingConfig(3, 2)
    alone = {row: draws(table, np.array([row]), mixing)[row] for row in range(12)}
    assert draws(table, np.arange(12), mixing) == alone
    assert draws(table, np.arange(12)[::-1], mixing) == alone
    assert draws(table, np.arange(12), mixing, num_ranks=num_ranks) == alone


def test_every_step_seed_and_row_draws_anew():
    table, mixing = table_of([0, 1], [[2, 3, 4, 5]] * 2), MixingConfig(4, 0)
    first = draws(table, np.arange(2), mixing)
    assert first == draws(table, np.arange(2), mixing)
    assert first[0][1] != first[1][1]
    assert first[0][1] != draws(table, np.arange(2), mixing, step=1)[0][1]
    assert first[0][1] != draws(table, np.arange(2), mixing, seed=6)[0][1]


@pytest.mark.parametrize("beta", [1.0, 2.0, 8.0])
def test_shares_are_drawn_from_the_beta_distribution(beta):
    """Mean 1/2, variance 1 / (4 (2 beta + 1)): .05 for Beta(2, 2)."""
    table = table_of([0], [[1, 2]])
    share = np.concatenate(
        [draws(table, np.array([0]), MixingConfig(50, 0, beta), step)[0][1] for step in range(100)]
    )
    assert share.mean() == pytest.approx(0.5, abs=0.015)
    assert share.var() == pytest.approx(1 / (4 * (2 * beta + 1)), rel=0.08)


def test_every_pair_of_negatives_is_drawn_alike():
    table = table_of([0], [[1, 2, 3]])
    pairs = [
        p
        for step in range(60)
        for p in draws(table, np.array([0]), MixingConfig(20, 0), step)[0][0]
    ]
    counts = np.array([pairs.count((a, b)) for a in (1, 2, 3) for b in (1, 2, 3) if a != b])
    assert counts.sum() == 1200
    assert counts.min() > 150


def test_further_lists_are_parts_of_all_sizes_drawn_alike():
    table = table_of([0], [[1, 2, 3, 4]])
    found = [draws(table, np.array([0]), MixingConfig(0, 6), step)[0][2] for step in range(80)]
    assert all(lists[0] == [1, 2, 3, 4] for lists in found)
    parts = [part for lists in found for part in lists[1:]]
    sizes = [sum(len(part) == size for part in parts) for size in (2, 3, 4)]
    assert sum(sizes) == len(parts) == 400
    assert min(sizes) > 100
    counts = [sum(d in part for part in parts) for d in (1, 2, 3, 4)]
    # 300 each, give or take two standard deviations of the difference
    assert max(counts) - min(counts) < 60
