"""Held-out texts, the closed form that they choose, and candidates of scores."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from leafkit.config import CandidatesConfig, StudentConfig, StudentLosses
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection, Document, Query, same_text
from leafkit.data.stored.flat_tokens import flatten
from leafkit.pipeline.student.candidates import check_scores, find_candidates
from leafkit.pipeline.student.fit.closed_form import ClosedForm, _choose
from leafkit.pipeline.student.leave_out import leave_out
from leafkit.pipeline.student.targets import Target, list_rows, read_targets
from leafkit.pipeline.student.text_groups import (
    DOCUMENTS,
    MADE_QUERIES,
    PSEUDO_TEXTS,
    QUERIES,
    TextGroup,
)
from leafkit.pipeline.student.train_rows import pairs_of, train_rows
from leafkit.pipeline.student.transformer import list_batches
from leafkit.pipeline.student.validation import Agreed, choose_validation, relevant_documents

DIM = 12


def unit(count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_task(documents=500, queries=0, made=0, pseudo=0, **config):
    targets = [
        Target([f"{origin} {i}" for i in range(count)], role, unit(count, seed), origin=origin)
        for seed, (count, role, origin) in enumerate(
            [
                (documents, "document", DOCUMENTS),
                (queries, "query", QUERIES),
                (made, "query", MADE_QUERIES),
                (pseudo, "query", PSEUDO_TEXTS),
            ]
        )
        if count
    ]
    return SimpleNamespace(targets=targets, config=StudentConfig(**config), relevant={})


ORIGINS = (QUERIES, MADE_QUERIES, DOCUMENTS)


def ids_of(task):
    return [flatten([[[g, i] for i in range(len(t.texts))]]) for g, t in enumerate(task.targets)]


@pytest.mark.parametrize(
    ("sizes", "origin", "number"),
    [
        ({"queries": 9000}, QUERIES, 200),
        ({"queries": 600, "made": 9000}, QUERIES, 30),
        ({"queries": 300, "made": 900}, MADE_QUERIES, 45),  # a twentieth is too few
        ({"queries": 300, "pseudo": 9000}, DOCUMENTS, 25),  # random words are no queries
        ({"documents": 9000}, DOCUMENTS, 100),
        ({"queries": 9000, "num_held_out": 40}, QUERIES, 40),
    ],
)
def test_the_texts_nearest_to_what_is_served_are_held_out(sizes, origin, number):
    task = make_task(**sizes)
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert (found.origin, len(found.rows), len(found.texts)) == (origin, number, number)
    assert {task.targets[g].origin for g, _ in found.rows} == {origin}
    assert [ids.tolist() for ids in found.token_ids] == [[g, i] for g, i in found.rows]
    assert [i for _, i in found.rows] == found.own.tolist() or (found.own == -1).all()
    assert choose_validation(task, ids_of(task), ORIGINS).rows == found.rows


def test_what_differs_from_a_held_out_text_in_case_and_spaces_is_held_out_with_it():
    task = make_task(queries=900)
    asked = task.targets[1].texts
    asked[450:] = [f"  {text.upper()} " for text in asked[:450]]
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert len(found.rows) == 22  # a twentieth of 450
    rows = train_rows(task.targets, without=found.texts)
    trained = {same_text(task.targets[g].texts[i]) for g, i in rows.tolist()}
    held_out = {same_text(task.targets[g].texts[i]) for g, i in found.rows}
    assert len(rows) == 500 + 900 - 44
    assert not trained & held_out
    assert list_rows(task.targets, without=found.texts) == pairs_of(rows)


@pytest.mark.parametrize("sizes", [{"documents": 399}, {"documents": 15, "queries": 9000}])
def test_few_texts_are_all_learned_from(sizes):
    task = make_task(**sizes)
    assert choose_validation(task, ids_of(task), ORIGINS) is None


@pytest.mark.parametrize(
    ("sizes", "number"),
    [({"documents": 200}, 20), ({"documents": 390}, 20), ({"documents": 199}, 0)],
)
def test_a_training_holds_out_a_tenth_of_few(sizes, number):
    task = make_task(**sizes)
    found = choose_validation(task, ids_of(task), ORIGINS, is_watched=True)
    assert len(found.rows if found else ()) == number


def test_the_teachers_own_vectors_agree_and_others_do_not():
    task = make_task(queries=900)
    found = choose_validation(task, ids_of(task), ORIGINS)
    itself = found.measure(found.vectors)
    assert (itself.cosine, itself.overlap) == pytest.approx((1.0, 1.0))
    half = found.vectors + 0.15 * unit(len(found.rows), 9)
    near, far = found.measure(half), found.measure(unit(len(found.rows), 9))
    assert itself.is_better(near)
    assert near.is_better(far)
    assert far.overlap < 0.2
    documents = task.targets[0].vectors
    expected = [set(np.argsort(-documents @ v)[:10]) for v in half]
    wanted = [set(np.argsort(-documents @ v)[:10]) for v in found.vectors]
    shares = [len(a & b) / 10 for a, b in zip(expected, wanted, strict=True)]
    assert near.overlap == pytest.approx(np.mean(shares))


def test_a_document_does_not_find_itself():
    task = make_task(documents=500)
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert not (found.nearest == found.own[:, None]).any()


def test_what_is_found_counts_before_cosine():
    assert Agreed(0.5, 0.7).is_better(Agreed(0.9, 0.6))
    assert Agreed(0.6, 0.7).is_better(Agreed(0.5, 0.7))
    assert not Agreed(0.5, 0.7).is_better(Agreed(0.5, 0.7))


# --- candidates


def test_candidates_are_the_teachers_nearest_and_random_ones():
    task = make_task(documents=50, queries=6, pseudo=4)
    found = find_candidates(task.targets, CandidatesConfig(num_nearest=5, num_random=7), seed=1)
    assert [found.has(g) for g in range(3)] == [False, True, False]
    rows = [(0, 3), (1, 2), (2, 0), (1, 5)]
    scored = found.of(rows, step=4)
    assert scored.rows.tolist() == [1, 3]
    assert (scored.expected_rows, scored.expected_judged, scored.positives) == (2, 0, None)
    documents = task.targets[0].vectors
    for row, (g, i) in enumerate([(1, 2), (1, 5)]):
        nearest = np.argsort(-documents @ task.targets[g].vectors[i])[:5]
        assert np.allclose(scored.candidates[row, :5].numpy(), documents[nearest], atol=1e-6)
        rest = scored.candidates[row, 5:].numpy()
        places = [int(np.argmax(documents @ vector)) for vector in rest]
        assert len(set(places)) == len(places) <= 7
        present = scored.present[row].tolist()
        assert present == [True] * 5 + [place not in nearest for place in places]
    again = found.of(rows, step=4)
    other = found.of(rows, step=5)
    assert scored.candidates.equal(again.candidates)
    assert not (
        scored.candidates.shape == other.candidates.shape
        and scored.candidates.equal(other.candidates)
    )
    assert found.of([(0, 3), (2, 0)], step=0) is None


def test_documents_are_scored_where_asked_and_do_not_stand_among_their_own():
    task = make_task(documents=20, queries=3)
    config = CandidatesConfig(texts="all", num_nearest=40, num_random=0)
    found = find_candidates(task.targets, config, seed=0)
    scored = found.of([(0, 7)], step=0)
    assert scored.candidates.shape == (1, 19, DIM)
    own = read_targets(task.targets, [(0, 7)])[0]
    assert float((scored.candidates[0].numpy() @ own).max()) < 0.999
    # nor where it is drawn at random
    few = CandidatesConfig(texts="all", num_nearest=2, num_random=64)
    drawn = find_candidates(task.targets, few, seed=0)
    for step in range(20):
        scored = drawn.of([(0, 7), (0, 8)], step)
        similar = scored.candidates[0].numpy() @ own
        assert similar[scored.present[0].numpy()].max() < 0.999


def test_judged_documents_are_candidates_once_and_said_to_be_relevant():
    task = make_task(documents=50, queries=4, made=2)
    documents, asked = task.targets[0].vectors, task.targets[1].vectors
    order = np.argsort(-asked @ documents.T, axis=1)
    # one that is near, one that is far, more than one batch has room for, and none
    wanted = [{int(order[0, 1]): 1}, {int(order[1, 40]): 2}, dict.fromkeys(range(20), 1), {}]
    relevant = {f"queries {i}": grades for i, grades in enumerate(wanted)}
    config = CandidatesConfig(num_nearest=5, num_random=7)
    found = find_candidates(task.targets, config, 1, relevant)
    rows = [(0, 9), (1, 0), (1, 1), (1, 2), (1, 3), (2, 1)]
    batches = [found.of(rows, step) for step in range(40)]
    seen: set[int] = set()
    for scored in batches:
        assert (scored.expected_rows, scored.expected_judged) == (5, 3)
        assert scored.positives.shape == scored.present.shape == scored.candidates.shape[:2]
        vectors = scored.candidates.numpy()
        places = np.linalg.norm(vectors[:, :, None] - documents, axis=3).argmin(axis=2)
        for row, grades in enumerate([*wanted, {}]):
            there = places[row][scored.present[row].numpy()]
            assert len(set(there.tolist())) == len(there)
            marked = places[row][(scored.present & scored.positives)[row].numpy()]
            assert set(marked.tolist()) == set(grades) & set(there.tolist())
            assert bool(len(marked)) == bool(grades)
        seen |= set(places[2][(scored.present & scored.positives)[2].numpy()].tolist())
    assert seen == set(range(20))
    with pytest.raises(UsageError, match="no train query has judged documents"):
        find_candidates(task.targets, config, 1, {"queries 9": {0: 1}})


def test_a_query_weighs_the_same_in_any_company():
    """It weighed 19 times as much in a batch of documents as among queries."""
    losses = StudentLosses(score_kl=1.0, end={"l2": 0.5})
    task = make_task(documents=60, queries=20, losses=losses)
    relevant = {f"queries {i}": {i: 1} for i in range(10)}
    found = find_candidates(task.targets, losses.candidates, 1, relevant)
    # a quarter of the rows is scored, an eighth judged; then scores count alone
    batches = [np.r_[:39, 60], np.r_[39:60, 61:80], np.r_[60:80]]
    rows = train_rows(task.targets)
    listed = list_batches(task, ids_of(task), rows, batches, candidates=found)
    scored = [listed[i].scored for i in range(3)]
    assert [len(one.rows) for one in scored] == [1, 19, 20]
    assert [one.expected_rows for one in scored] == [10, 10, 20]
    assert [one.expected_judged for one in scored] == [5, 5, 10]
    # nor does gradient accumulation tell batches of other sizes apart
    parts = [np.r_[:9, 60], np.r_[9:60, 61:80]]
    task.config = StudentConfig(losses=StudentLosses(score_kl=1.0))
    both = list_batches(task, ids_of(task), rows, parts, candidates=found, num_accumulated=2)
    weighed = [both.accumulated(2)[i] for i in range(2)]
    assert [b.loss_weight / b.scored.expected_rows for b in weighed] == pytest.approx([2 / 20] * 2)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"documents": 2, "queries": 9}, "2 documents are no candidates"),
        ({"documents": 50, "pseudo": 9}, "no queries to score"),
    ],
)
def test_scores_without_queries_or_documents_are_refused(sizes, reason):
    with pytest.raises(UsageError, match=reason):
        find_candidates(make_task(**sizes).targets, CandidatesConfig(), seed=0)


@pytest.mark.parametrize(
    ("documents", "changes", "unseen", "reason"),
    [
        (3, {}, {"text 0"}, "2 documents are no candidates"),
        (9, {}, {"Ask  1"}, "no queries to score"),  # case and spaces make no other text
        (9, {"contrastive": 1.0}, set(), None),
        (9, {"contrastive": 1.0}, {"text 4"}, "no train query has judged documents"),
        (9, {"score_kl": 0.0}, {"ask 1"}, None),  # no term over scores
    ],
)
def test_scores_are_refused_by_the_texts_alone(documents, changes, unseen, reason):
    rows = [Document(f"d{i}", f"text {i}") for i in range(documents)]
    collection = Collection("c", rows, [Query("q", "ask 1", "train")], {"q": {"d4": 1}})
    groups = [
        TextGroup("", [d.text for d in rows], "document", origin=DOCUMENTS),
        TextGroup("", ["ask 1"], "query", origin=QUERIES),
        TextGroup("", ["word"] * 9, "query", origin=PSEUDO_TEXTS),
    ]
    config = StudentConfig(losses=StudentLosses(**{"score_kl": 1.0} | changes))
    with nullcontext() if reason is None else pytest.raises(UsageError, match=reason):
        check_scores(groups, config, collection, unseen=frozenset(unseen))


# --- judgments


def test_judged_queries_are_measured_by_their_judgments():
    task = make_task(queries=900)
    # half of the queries are judged: their own nearest document, at the teacher's first place
    asked, documents = task.targets[1], task.targets[0].vectors
    nearest = (asked.vectors @ documents.T).argmax(axis=1)
    task.relevant = {f"queries {i}": {int(nearest[i]): 1} for i in range(0, 900, 2)}
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert len(found.judged) == sum(i % 2 == 0 for _, i in found.rows) >= 20
    perfect = found.measure(found.vectors)
    assert perfect.ndcg == 1.0
    assert "nDCG@10 1.000" in str(perfect)
    # the second place is worth 1 / log2(3)
    second = np.argsort(-(asked.vectors @ documents.T), axis=1)[:, 1]
    task.relevant = {f"queries {i}": {int(second[i]): 1} for i in range(900)}
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert found.measure(found.vectors).ndcg == pytest.approx(1 / np.log2(3))


def test_too_few_judgments_are_none():
    task = make_task(queries=900)
    task.relevant = {f"queries {i}": {0: 1} for i in range(5)}
    found = choose_validation(task, ids_of(task), ORIGINS)
    assert found.measure(found.vectors).ndcg is None


def test_judgments_are_those_of_train_queries_in_the_index():
    documents = [Document(f"d{i}", f"text {i}") for i in range(3)]
    queries = [
        Query("q1", "one", "train"),
        Query("q2", "two", "test"),
        Query("q3", "one", "train"),
        Query("q4", "four", "train"),
    ]
    grades = {"q1": {"d2": 2, "d0": 0}, "q2": {"d1": 1}, "q3": {"d1": 1}, "q4": {"gone": 1}}
    collection = SimpleNamespace(documents=documents, queries=queries, qrels=grades)
    index = Target([d.full_text for d in documents], "document", unit(3, 0), origin=DOCUMENTS)
    assert relevant_documents(collection, [index]) == {"one": {2: 2, 1: 1}}
    # of an index that lacks a document, the others' places
    held_out = leave_out([index], {"text 0"})
    assert relevant_documents(collection, held_out) == {"one": {1: 2, 0: 1}}
    assert relevant_documents(collection, leave_out([index], {"text 2"})) == {"one": {1: 1}}
    # a query that stands for a document keeps it beside those that are judged
    made = Target(["one", "made"], "query", unit(2, 1), origin=MADE_QUERIES, sources=(0, 2))
    expected = {"one": {0: 1, 2: 2, 1: 1}, "made": {2: 1}}
    assert relevant_documents(collection, [index, made]) == expected


# --- the closed form


def test_a_difference_is_judged_text_by_text():
    easy_and_hard = np.tile([1.0, 0.2], 50)
    best, worse = (Agreed(0.9, 0.6, tuple(s)) for s in (easy_and_hard, easy_and_hard - 0.03))
    assert best.is_as_good(best)
    assert best.is_as_good(worse)
    assert not worse.is_as_good(best)  # every text lost, though texts differ by far more
    other = Agreed(0.9, 0.59, tuple(easy_and_hard + np.tile([0.1, 0.08, -0.12, -0.1], 25)))
    assert other.is_as_good(best)


# by how much more or less than the mean a text finds: the same texts are hard for all ridges
SPREAD = np.tile([0.3, -0.3, 0.01, -0.01], 25)


def form(fitted_to, ridge, overlap, seed=0):
    noise = np.random.default_rng([seed, int(ridge * 1e5)]).permutation(np.tile([0.08, -0.08], 50))
    shares = tuple(overlap + SPREAD + noise)  # differences have a standard error of about .01
    return ClosedForm(fitted_to, 100, ridge, Agreed(0.8, overlap, shares)), np.array([overlap])


@pytest.mark.parametrize(
    ("tried", "chosen"),
    [
        # a difference within the error is none: the strongest counts
        (
            [("documents", 1e-4, 0.706), ("documents", 1e-2, 0.703), ("documents", 1e-1, 0.701)],
            1e-1,
        ),
        (
            [("documents", 1e-4, 0.706), ("documents", 1e-2, 0.701), ("documents", 1e-1, 0.640)],
            1e-2,
        ),
        (
            [("documents", 1e-4, 0.706), ("all given texts", 1e-1, 0.700)],
            1e-4,
        ),  # other texts do not
        (
            [
                ("documents", 1e-4, 0.706),
                ("all given texts", 1e-3, 0.760),
                ("all given texts", 1e-2, 0.7),
            ],
            1e-3,
        ),
    ],
)
def test_the_texts_that_find_most_and_their_strongest_ridge(tried, chosen):
    assert _choose([form(*one) for one in tried])[0].ridge == chosen


def test_documents_left_out_one_by_one_choose_the_strength():
    def left_out(fitted_to, ridge, overlap, cosine):
        made, rows = form(fitted_to, ridge, overlap)
        return replace(made, left_out=cosine), rows

    tried = [
        left_out("documents", 1e-4, 0.72, 0.60),
        left_out("documents", 1e-1, 0.70, 0.85),
        left_out("documents", 1.0, 0.60, 0.80),
        left_out("all given texts", 1e-2, 0.50, 0.99),  # the texts are chosen by what is found
    ]
    assert _choose(tried)[0].ridge == 1e-1
    unasked = [(replace(made, agreed=None), rows) for made, rows in tried[:3]]
    assert _choose(unasked)[0].ridge == 1e-1


@pytest.mark.parametrize(("overlap", "num_layers"), [(0.708, 1), (0.69, 1), (0.76, 2)])
def test_a_second_layer_is_taken_where_it_finds_more_beyond_noise(overlap, num_layers):
    one = form("documents", 1e-2, 0.706)
    two, rows = form("documents", 1e-1, overlap, seed=1)
    chosen, _ = _choose([one, (replace(two, num_layers=2), rows)])
    assert chosen.num_layers == num_layers


def test_left_out_documents_choose_the_layers_where_nothing_was_held_out():
    tried = [
        (
            ClosedForm(
                fitted_to="all given texts",
                num_texts=9,
                ridge=1e-1,
                agreed=None,
                left_out=left_out,
                num_layers=num_layers,
            ),
            np.ones(1),
        )
        for left_out, num_layers in ((0.70, 1), (0.72, 1), (0.75, 2), (0.74, 2))
    ]
    assert _choose(tried)[0].left_out == 0.75
    assert str(_choose(tried)[0]).startswith("two layers, ridge 0.1 on all given texts (9)")


def test_without_held_out_texts_the_first_is_taken():
    tried = [(ClosedForm("all given texts", 9, 1e-3, None), np.ones(1))]
    assert _choose(tried)[0].ridge == 1e-3
