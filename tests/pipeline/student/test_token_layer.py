"""Students with a layer over tokens: what its units answer to, what the closed form finds by them,
its training, and what is refused.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import small_student
import tiny
import torch
from small_student import distill_from as distill

import leafkit
from leafkit.core.errors import UsageError
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.heads.token_table import TokenTable
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.student.fit import pooled_states, token_layer
from leafkit.report.card import render_card
from leafkit.results import RunReport
from leafkit.train import world as launch_world
from leafkit.train.world import read_world

UNSEEN = [f"which {query} of the first value" for query, _ in tiny.make_pairs()[50:]]
HIDDEN, DIM = 32, 40


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def teacher(home) -> TextEncoder:
    """A random map of the student's own states and of random token vectors."""
    start = read_encoder(home / "small")
    torch.manual_seed(9)
    num_tokens = start.backbone.get_input_embeddings().weight.shape[0]
    table = TokenTable(torch.arange(num_tokens), 3 * torch.randn(num_tokens, 8), num_tokens)
    spec = EncoderSpec(normalized=True, max_tokens=64)
    projection = torch.nn.Linear(HIDDEN + 8, DIM)
    return TextEncoder(start.backbone, start.tokenizer, spec, projection, token_table=table).eval()


def test_units_answer_to_their_kind_of_token_and_hand_the_state_on(home):
    encoder = read_encoder(home / "small")
    embedder = TransformerEmbedder(encoder, torch.device("cpu"), torch.float32)
    texts = [np.array(ids) for ids in encoder.tokenize(small_student.DOCUMENTS, "document")]
    kinds = token_layer._most_frequent(texts, 30)
    counts = [sum((text == kind).sum() for text in texts) for kind in kinds.tolist()]
    assert counts == sorted(counts, reverse=True)
    assert len(set(kinds.tolist())) == 30
    weight, bias = token_layer._answer_to(kinds, texts, embedder, seed=0)
    assert weight.shape == (2 * HIDDEN + 30, HIDDEN)
    batches = list(embedder.token_states(texts))
    ids, states = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    found = np.maximum(states @ weight.T + bias, 0)
    # parts above and below the mean, together the state
    handed_on = found[:, :HIDDEN] - found[:, HIDDEN : 2 * HIDDEN]
    np.testing.assert_allclose(handed_on, states - states.mean(0), atol=1e-4)
    own = found[:, 2 * HIDDEN :]
    assert 0.004 < (own > 0).mean() < 0.02  # one token in a hundred
    before = states @ weight[2 * HIDDEN :].T
    by_kind = np.stack([before[ids == kind].mean(0) for kind in kinds])
    assert (by_kind.argmax(0) == np.arange(30)).mean() > 0.9


def test_tokens_that_come_once_have_no_unit():
    texts = [np.array([5, 3]), np.array([3, 9]), np.array([7, 9, 9])]
    assert token_layer._most_frequent(texts, 9).tolist() == [9, 3]
    assert token_layer._most_frequent(texts, 1).tolist() == [9]


def test_sums_are_those_of_each_kind_and_of_the_others():
    chooser = np.random.default_rng(0)
    batches = [
        (chooser.integers(0, 12, 50), chooser.normal(size=(50, 3)).astype(np.float32))
        for _ in range(3)
    ]
    kinds = np.array([7, 2, 5])
    sums, counts, sample = token_layer._sum_states(kinds, batches, 0, 150)
    ids, states = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    for row, kind in enumerate(kinds):
        np.testing.assert_allclose(sums[row], states[ids == kind].sum(0), atol=1e-5)
        assert counts[row] == (ids == kind).sum()
    others = ~np.isin(ids, kinds)
    np.testing.assert_allclose(sums[3], states[others].sum(0), atol=1e-5)
    assert counts.sum() == 150
    assert sample.shape == (150, 3)  # fewer than are drawn


def test_what_words_alone_say_is_found_and_loads_in_sentence_transformers(
    home, teacher, tmp_path, capsys
):
    st = pytest.importorskip("sentence_transformers", reason="the extra dev brings it")
    plain = distill(home, teacher, kind="instant", head_steps=0)
    found = distill(home, teacher, kind="instant", head_steps=0, token_units=9000)
    said = " ".join(capsys.readouterr().out.split())
    assert "layer over tokens: " in said
    assert f"{2 * HIDDEN} for the hidden state" in said
    assert "(9,000 were asked for, and no more kinds come twice)" in said
    student = found.student
    num_kinds = student.num_units - 2 * HIDDEN
    assert 20 < num_kinds < 9000
    assert student.projection.in_features == student.num_units
    assert student.num_parameters() > plain.student.num_parameters()
    more = small_student.cosines(found, teacher, UNSEEN).mean()
    assert more > small_student.cosines(plain, teacher, UNSEEN).mean() + 0.02
    write_encoder(student, tmp_path, {})
    loaded = st.SentenceTransformer(str(tmp_path), device="cpu")
    np.testing.assert_allclose(
        loaded.encode(UNSEEN, prompt_name="query"), found.encode_query(UNSEEN), atol=1e-4
    )


def test_it_is_trained_and_saved_and_may_have_a_table_beside_it(home, teacher, tmp_path):
    settings = {"token_units": 50, "token_table": 8}
    instant = distill(home, teacher, kind="instant", head_steps=0, **settings)
    pair = distill(home, teacher, num_checks=0, **settings)
    assert pair.student.table_dim == 8
    before, after = (one.student.token_layer.linear.weight for one in (instant, pair))
    assert before.shape == after.shape
    assert not torch.equal(before, after)
    assert torch.isfinite(after).all()
    pair.save(tmp_path / "pair")
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(UNSEEN), pair.encode_query(UNSEEN), atol=1e-5)


def test_all_processes_take_the_first_ones_layer(home, teacher, monkeypatch):
    world = read_world()
    for module in (launch_world, token_layer):
        monkeypatch.setattr(module, "read_world", lambda: replace(world, rank=1, size=2))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    sent = []

    def broadcast(box, src):
        sent.append((box[0], src))
        box[0] = (np.ones((70, HIDDEN), np.float32), np.zeros(70, np.float32))

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    monkeypatch.setattr(pooled_states, "read_world", lambda: world)
    pair = distill(home, teacher, kind="instant", token_units=8)
    assert sent == [(None, 0)]
    assert bool((pair.student.token_layer.linear.weight == 1).all())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"kind": "static"}, r"under student\.head=linear"),
        ({"head": "two_layer"}, r"under student\.head=linear"),
        ({"head": "none"}, r"under student\.head=linear"),
        ({"head_layers": "all"}, r"reads the last layer alone"),
        ({"pooling": "cls"}, r"pools the cls token alone"),
    ],
)
def test_it_stands_between_a_transformer_and_its_mean(home, config, said):
    with pytest.raises(UsageError, match=said):
        distill(home, f"model:{home / 'big'}", token_units=8, **config)


@pytest.mark.slow
def test_a_recipe_measures_it_and_two_processes_make_the_same(home, teacher, tmp_path, start):
    write_encoder(teacher, tmp_path / "teacher", {})
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", tiny.tiny_recipe(home, tmp_path / "ck"))
    words = (f"teacher.source=model:{tmp_path / 'teacher'}", "student.token_units=24")
    run = start(recipe, "inherit.precisions=[float32]", *words)
    student = read_encoder(run.folder / "student")
    report = collect_report(run, "leafkit distill")
    assert report.student.token_units == student.num_units == 2 * HIDDEN + 24
    assert RunReport.from_json(report.to_json()).student == report.student
    card = render_card(report)
    assert "SentenceTransformer" in card
    assert "layer over tokens" in card
    two = tmp_path / "two"
    done = tiny.run_cli("distill", f"recipe={recipe}", f"checkpoints={two}", *words, processes=2)
    assert done.returncode == 0, done.stderr[-3000:]
    other = read_encoder(two / "tiny" / "student")
    torch.testing.assert_close(
        other.token_layer.linear.weight, student.token_layer.linear.weight, atol=1e-2, rtol=1e-2
    )
