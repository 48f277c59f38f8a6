"""Kinds, losses and checks of a transformer student, on tiny models."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import small_student
import tiny
import torch
from small_student import DOCUMENTS, QUERIES, weights

import leafkit
from leafkit.config import TERMS, CandidatesConfig, StudentLosses
from leafkit.config.load import load_recipe
from leafkit.core.artifact import read_manifest
from leafkit.core.errors import UsageError
from leafkit.models.attention import sees_later_tokens
from leafkit.models.checkpoint import read_encoder
from leafkit.pipeline import distill as distill_step
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.distill import run_distill
from leafkit.pipeline.run import open_run
from leafkit.pipeline.student import time_budget, transformer
from leafkit.pipeline.student.candidates import NoQueriesError
from leafkit.report import provenance
from leafkit.train.leaf_module import LeafBatch, LeafModule, ScoredRows
from leafkit.train.student_terms import check_losses


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def distill(home, losses=None, **config) -> leafkit.Pair:
    settings = {"tokens_per_batch": 512, "num_ridge_texts": 64, "num_epochs": 0.3} | config
    init = settings.pop("init", "")
    settings["losses"] = losses or StudentLosses()
    return small_student.distill(home, leafkit.StudentConfig(**settings), init)


def test_an_instant_student_is_the_start_of_a_trained_one(home):
    instant = distill(home, kind="instant")
    untouched = read_encoder(home / "small")
    for name, value in instant.student.backbone.state_dict().items():
        assert torch.equal(value, untouched.backbone.state_dict()[name])
    # a training that nothing moves is it too
    still = distill(home, optimizer=leafkit.OptimizerConfig(lr=1e-12, weight_decay=0))
    assert torch.allclose(weights(instant), weights(still), atol=1e-9)
    trained = distill(home, num_checks=0)
    assert not torch.allclose(weights(instant), weights(trained), atol=1e-4)


def test_a_training_that_does_harm_ends_as_its_start(home, caplog):
    instant = distill(home, kind="instant")
    with caplog.at_level("INFO", logger="leafkit"):
        ruined = distill(home, optimizer=leafkit.OptimizerConfig(lr=1.0))
    assert torch.equal(weights(ruined), weights(instant))
    assert "training found no more than the closed form on 25 queries held out" in caplog.text
    kept = distill(home, optimizer=leafkit.OptimizerConfig(lr=1.0), num_checks=0)
    assert not torch.equal(weights(kept), weights(instant))


def test_a_start_that_finds_all_trains_nothing(home, caplog):
    settings = {"num_ridge_texts": 4096}

    def distill_self(**more) -> leafkit.Pair:
        config = leafkit.StudentConfig(
            **settings | more, optimizer=leafkit.OptimizerConfig(lr=1e-3), tokens_per_batch=512
        )
        return leafkit.distill(
            f"model:{home / 'small'}",
            f"model:{home / 'small'}",
            DOCUMENTS,
            QUERIES,
            config=config,
            max_document_tokens=48,
            device="cpu",
            precision="float32",
        )

    with caplog.at_level("INFO", logger="leafkit"):
        start = distill_self()
    assert "there is nothing left to train for" in caplog.text
    # only directions count: the map does not even out lengths, and gives the teacher's vectors
    assert "cosine 1.0000, overlap@10 1.000" in caplog.text
    assert torch.equal(weights(start), weights(distill_self(kind="instant")))
    trained = distill_self(enough_overlap=1.0, num_epochs=0.1, num_checks=0)
    assert not torch.equal(weights(start), weights(trained))


def test_few_documents_are_fitted_as_strongly_as_they_predict_each_other(home, caplog):
    """Fewer documents than dimensions fit anything: what is left out says how strong the ridge is
    to be, also where too few texts could be held out.
    """
    with caplog.at_level("INFO", logger="leafkit"):
        leafkit.distill(
            f"model:{home / 'big'}",
            f"model:{home / 'small'}",
            DOCUMENTS,
            config=leafkit.StudentConfig(kind="instant"),
            max_document_tokens=48,
            num_pseudo_texts=0,
            device="cpu",
            precision="float32",
        )
    assert "of documents left out one by one" in caplog.text
    ridge = float(re.search(r"closed form: ridge (\S+) on all given texts", caplog.text)[1])
    assert ridge >= 0.01


def test_a_time_budget_trains_as_many_batches_as_it_holds(home, monkeypatch, caplog):
    seen = []

    def three(budget_s, **found):
        seen.append((budget_s, found))
        return 3

    monkeypatch.setattr(time_budget, "batches_within", three)
    with caplog.at_level("INFO", logger="leafkit"):
        probed = distill(home, minutes=2.0)
    assert "2 minutes hold 3 batches of" in caplog.text
    [(budget_s, found)] = seen
    assert budget_s == 120
    assert found["seconds_per_batch"] > 0
    assert found["checks_s"] > 0
    assert found["spent_s"] > found["seconds_per_batch"]
    # what was measured left no trace in what is trained
    monkeypatch.setattr(time_budget, "count_batches", lambda *of_student: 3)
    assert torch.equal(weights(probed), weights(distill(home, minutes=2.0)))


def test_no_time_is_the_instant_student(home):
    assert torch.equal(weights(distill(home, minutes=0)), weights(distill(home, kind="instant")))


def test_batches_of_a_budget_go_on_over_epochs(home):
    task = SimpleNamespace(config=leafkit.StudentConfig(tokens_per_batch=64), seed=1)
    once = transformer.plan_batches(task, [10] * 50)
    assert sorted(np.concatenate(once).tolist()) == list(range(50))
    thrice = transformer.plan_batches(task, [10] * 50, 3 * len(once))
    assert sorted(np.concatenate(thrice).tolist()) == sorted(list(range(50)) * 3)
    assert len(transformer.plan_batches(task, [10] * 50, 2)) == 2


@pytest.mark.parametrize("term", [t for t in TERMS if t not in ("l2", "contrastive")])
def test_every_term_trains_in_its_own_way(term, home):
    plain = distill(home, num_checks=0)
    other = distill(home, StudentLosses(**{term: 5.0}), num_checks=0)
    difference = (weights(plain) - weights(other)).abs().max()
    assert 1e-7 < float(difference) < 0.1


def test_judgments_train_the_judged_queries_alone(home):
    """By hand: of two scored rows one is judged, the other has no part in the mean."""
    torch.manual_seed(0)
    encoder = tiny.make_encoder()
    losses = StudentLosses(l2=0.0, contrastive=1.0, candidates=CandidatesConfig(temperature=0.5))
    module = LeafModule(encoder, leafkit.OptimizerConfig(), num_steps=1, losses=losses)
    module._trainer = SimpleNamespace(world_size=1)
    module.record = lambda loss: None
    module.log = lambda name, value: None
    ids = encoder.tokenize(["a query", "another query of more words"], "query", 16)
    candidates = torch.nn.functional.normalize(torch.randn(2, 3, encoder.dim), dim=2)
    scored = ScoredRows(
        rows=torch.tensor([0, 1]),
        candidates=candidates,
        present=torch.ones(2, 3, dtype=torch.bool),
        expected_rows=2,
        positives=torch.tensor([[False, True, False], [False, False, False]]),
        expected_judged=1,
    )
    loss = module.training_step(LeafBatch(ids, torch.zeros(2, encoder.dim), 2, scored=scored))
    with torch.no_grad():
        logits = candidates[0] @ encoder.finish(encoder(ids))[0] / 0.5
    assert loss.item() == pytest.approx(float(logits.logsumexp(0) - logits[1]), rel=1e-5)
    with pytest.raises(UsageError, match="no train query has judged documents"):
        distill(home, StudentLosses(contrastive=1.0))


def test_scores_alone_read_queries_alone(home):
    alone = StudentLosses(l2=0.0, score_kl=1.0)
    few = distill(home, alone, num_checks=0, num_held_out=0)
    # documents take no part, so other ones in their place in the batches change nothing
    assert torch.isfinite(weights(few)).all()
    queries = few.encode_query(QUERIES[:20])
    assert np.isfinite(queries).all()


@pytest.mark.slow
def test_a_term_that_begins_late_changes_the_end_alone(home):
    plain = distill(home, num_checks=0)
    never = StudentLosses(score_kl=5.0, begin={"score_kl": 0.9999})
    assert torch.equal(weights(plain), weights(distill(home, never, num_checks=0)))
    late = StudentLosses(score_kl=5.0, begin={"score_kl": 0.8})
    early = StudentLosses(score_kl=5.0)
    moved = [
        float((weights(plain) - weights(distill(home, losses, num_checks=0))).norm())
        for losses in (late, early)
    ]
    assert 0 < moved[0] < moved[1]


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (StudentLosses(l2=0.0), "all weights are 0"),
        (StudentLosses(begin={"gor": 0.5}), "gor: the term's weight is 0"),
        (StudentLosses(end={"l2": 0.5}), "no term counts between 0.5 and 1 of the steps"),
    ],
)
def test_losses_that_train_nothing_are_refused(losses, reason, home):
    with pytest.raises(UsageError, match=reason):
        distill(home, losses)


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (["losses.l2=0"], "all weights are 0"),
        (["losses.begin.l2=0.5"], "no term counts between 0 and 0.5 of the steps"),
        (["losses.end.l2=0.5"], "no term counts between 0.5 and 1 of the steps"),
        (["losses.mrl_prefix=1"], "no Matryoshka dimensions to follow"),
    ],
)
def test_losses_are_refused_before_the_teacher_embeds(broken, reason, home, tmp_path, monkeypatch):
    tiny.write_model(tmp_path / "plain", hidden=48, seed=1)
    recipe = tiny.write_recipe(tmp_path / "r.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = [f"student.{word}" for word in broken]
    words.append(f"teacher.source=model:{tmp_path / 'plain'}")
    monkeypatch.setattr(distill_step, "load_targets", None)  # what embeds would fail
    with (
        open_run(load_recipe(str(recipe), words)) as run,
        pytest.raises(UsageError, match=reason),
    ):
        run_distill(run)


def test_scores_of_nothing_are_refused_before_the_teacher_embeds(home, tmp_path, monkeypatch):
    documents = tiny.write_documents(tmp_path / "documents.jsonl")
    recipe = tiny.write_recipe(tmp_path / "r.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = [f"data.corpus=jsonl:{documents}", "student.losses.score_kl=1"]
    monkeypatch.setattr(distill_step, "embed_groups", None)
    with (
        open_run(load_recipe(str(recipe), words)) as run,
        pytest.raises(NoQueriesError, match="no queries to score"),
    ):
        run_distill(run)


@pytest.mark.parametrize(
    ("mrl_dims", "reference", "reason", "hint"),
    [
        ((), "model:x", "no Matryoshka dimensions to follow", "whole vectors$"),
        ((), "vectors:x", "no Matryoshka dimensions", r"name two .* teacher\.mrl_dims="),
        ((24,), "endpoint:x", "one Matryoshka dimension alone here, 24", r"teacher\.mrl_dims="),
        ((24,), "", "one Matryoshka dimension alone here, 24", "whole vectors$"),
    ],
)
def test_dimensions_are_to_be_named_where_they_can_be(mrl_dims, reference, reason, hint):
    with pytest.raises(UsageError, match=reason) as caught:
        check_losses(StudentLosses(mrl_prefix=1.0), mrl_dims, reference)
    assert re.search(hint, caught.value.hint)


def test_too_few_texts_to_watch_a_training_by_are_told(home, capsys):
    distill(home, num_held_out=10)
    assert "too few texts to hold some out" in capsys.readouterr().out
    distill(home)
    distill(home, num_held_out=10, kind="instant")
    assert "too few texts" not in capsys.readouterr().out


def test_a_teacher_without_matryoshka_has_no_prefixes(home, tmp_path):
    tiny.write_model(tmp_path / "plain", hidden=48, seed=1)
    with pytest.raises(UsageError, match="no Matryoshka dimensions to follow"):
        leafkit.distill(
            f"model:{tmp_path / 'plain'}",
            f"model:{home / 'small'}",
            DOCUMENTS,
            config=leafkit.StudentConfig(losses=StudentLosses(mrl_prefix=1.0)),
            device="cpu",
            precision="float32",
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["transformer", "instant"])
def test_report_and_card_say_how_it_started_and_ended(kind, home, tmp_path, start):
    rows = [{"query": query, "split": "train"} for query in QUERIES]
    plain = tiny.tiny_recipe(home, tmp_path / "ck")
    lines = (home / "pairs.jsonl").read_text().splitlines()
    texts = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        row["positive"] = texts[number % 50]["positive"]
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines, *map(json.dumps, rows)]))
    plain["data"]["corpus"] = f"jsonl:{tmp_path / 'pairs.jsonl'}"
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", plain)
    words = ["student.kind=instant"] if kind == "instant" else ["student.losses.score_kl=1"]
    run = start(recipe, *words, "inherit.precisions=[float32]")
    found = read_manifest(run.folder / "student").metrics["held_out"]
    assert found["texts"] == "queries"
    assert found["num_texts"] >= 20
    assert (found["num_batches"] == 0) == (kind == "instant")
    report = collect_report(run, "leafkit distill")
    assert report.checks is not None
    assert report.checks.num_texts == found["num_texts"]
    told = provenance.checks_in_words(report)
    assert report.checks.num_judged >= 20
    assert 0 < report.checks.start_ndcg <= 1
    assert f"on the {report.checks.num_judged} that are judged" in told
    assert f"queries that trained nothing, the closed-form start (ridge {found['ridge']:g}" in told
    loss = provenance.training_in_words(report)
    if kind == "instant":
        untrained = "No other layer" if found["head_steps"] else "Nothing"
        assert f"{untrained} was trained: the last layer was set in closed form" in loss
        assert ("steps towards the teacher's scores" in loss) == bool(found["head_steps"])
        assert report.losses["student"] == ()
        assert "there was no training" in told
    else:
        assert "the divergence of a query's scores over the teacher's document vectors" in loss


def test_the_average_of_the_weights_is_what_is_kept(home):
    plain, averaged = (distill(home, ema=decay, num_checks=0) for decay in (0.0, 0.9))
    start = weights(distill(home, kind="instant"))
    moved = float((weights(plain) - start).norm())
    # behind the last weights, and on the way to them
    assert 0.01 * moved < float((weights(plain) - weights(averaged)).norm()) < 0.9 * moved
    ruined = distill(home, ema=0.9, optimizer=leafkit.OptimizerConfig(lr=1.0))
    assert torch.equal(weights(ruined), start)


def test_a_student_may_begin_as_layers_of_its_own_teacher(home, caplog):
    teacher = leafkit.load_model(f"model:{home / 'big'}")
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    settings = {"texts": DOCUMENTS, "num_pseudo_texts": 0, "device": "cpu"}

    def instant(**config) -> leafkit.Pair:
        chosen = leafkit.StudentConfig(kind="instant", num_ridge_texts=64, **config)
        return leafkit.distill(teacher, teacher, config=chosen, precision="float32", **settings)

    with caplog.at_level("INFO", logger="leafkit"):
        last = instant(init_layers="last:1").student
    first, whole = instant(init_layers="1").student, instant().student
    assert "last:1: 1 of the 2 layers of the given student" in caplog.text
    assert [m.backbone.config.num_hidden_layers for m in (first, last, whole)] == [1, 1, 2]
    assert first.num_parameters() == last.num_parameters() < whole.num_parameters()
    layers = [m.backbone.encoder.layer[0].state_dict() for m in (first, last)]
    for given, kept in zip(teacher.backbone.encoder.layer, layers, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in given.state_dict().items())
    trained = leafkit.distill(
        teacher,
        teacher,
        config=leafkit.StudentConfig(init_layers="1", num_checks=0, num_ridge_texts=64),
        **settings,
    )
    assert not torch.equal(weights(trained)[:1000], weights(instant(init_layers="1"))[:1000])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("architecture", ["qwen3", "mistral"])
def test_a_decoder_becomes_a_bidirectional_student(architecture, home, tmp_path):
    def student(**config) -> leafkit.Pair:
        return distill(home, init=f"tiny:{architecture}", minutes=0, **config)

    causal, both = student(attention="causal"), student(attention="bidirectional", pooling="mean")
    assert causal.student.spec.attention == "causal"
    assert (both.student.spec.attention, both.student.spec.pooling) == ("bidirectional", "mean")
    assert not sees_later_tokens(causal.student.backbone, is_padded=False)
    assert sees_later_tokens(both.student.backbone, is_padded=False)
    trained = distill(
        home, init=f"tiny:{architecture}", attention="bidirectional", pooling="mean", num_checks=0
    )
    both.save(tmp_path / "pair")
    again = leafkit.load_pair(tmp_path / "pair")
    asked = QUERIES[:5]
    assert np.allclose(again.encode_query(asked), both.encode_query(asked), atol=1e-5)
    assert not np.allclose(trained.encode_query(asked), both.encode_query(asked), atol=1e-4)


def test_an_encoder_has_another_pooling_and_no_other_attention(home):
    first = distill(home, minutes=0, pooling="cls").student
    assert first.spec.pooling == "cls"
    teacher = leafkit.load_model(f"model:{home / 'big'}")
    before = teacher.spec
    given = leafkit.distill(
        teacher,
        teacher,
        DOCUMENTS,
        config=leafkit.StudentConfig(kind="instant", pooling="last", num_ridge_texts=64),
        num_pseudo_texts=0,
        device="cpu",
        precision="float32",
    )
    assert (given.student.spec.pooling, teacher.spec) == ("last", before)
    with pytest.raises(UsageError, match="was built to be bidirectional"):
        distill(home, attention="causal")
    with pytest.raises(UsageError, match=r"student\.pooling: is for students that begin as a"):
        distill(home, pooling="cls", kind="static")


def test_layers_that_are_not_there_are_one_error(home):
    with pytest.raises(UsageError, match="init_layers=3: 3 is beyond the 2 layers of the start"):
        distill(home, init_layers="3")
    with pytest.raises(UsageError, match=r"student\.init_layers: 'half' is not numbers from 1"):
        distill(home, init_layers="half")
    with pytest.raises(UsageError, match="is for students that begin as a transformer"):
        distill(home, init_layers="1", kind="static")
