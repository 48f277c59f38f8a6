"""Students with a table of token vectors: its closed form against one that is solved directly, when
it is kept, its training, and what is refused.
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
from leafkit.config import StudentLosses
from leafkit.core.errors import UsageError
from leafkit.models.checkpoint import read_encoder, write_encoder
from leafkit.models.heads.token_table import TokenTable
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.pipeline.collect import collect_report
from leafkit.pipeline.student.fit import pooled_states, solve_table
from leafkit.pipeline.student.fit.solve_table import TableSums, cut_rank
from leafkit.report.card import render_card
from leafkit.results import RunReport
from leafkit.train import world as launch_world
from leafkit.train.world import read_world

UNSEEN = [f"which {query} of the first value" for query, _ in tiny.make_pairs()[50:]]
DIM = 40


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny.make_home(tmp_path_factory.mktemp("home"))


def made_texts(num_texts=80, num_tokens=30, width=7, dim=5):
    chooser = np.random.default_rng(3)
    states = chooser.normal(1.0, 2.0, (num_texts, width)).astype(np.float32)
    aims = chooser.normal(0.5, 1.0, (num_texts, dim)).astype(np.float32)
    ids = [chooser.integers(0, num_tokens, chooser.integers(1, 9)) for _ in range(num_texts)]
    return states, aims, ids


def shares_of(ids, tokens) -> np.ndarray:
    return np.array([[(text == token).mean() for token in tokens] for text in ids])


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("ridge", "table_ridge"), [(1e-2, 1e-1), (1.0, 1e-3), (1e-4, 1.0)])
def test_it_is_the_ridge_solution(has_bias, ridge, table_ridge, monkeypatch):
    monkeypatch.setattr(solve_table, "_TOLERANCE", 1e-6)
    monkeypatch.setattr(solve_table, "_OUTPUTS_AT_ONCE", 2)
    states, aims, ids = made_texts()
    # of all but some, of which nothing is read
    rows = np.flatnonzero(np.arange(len(ids)) % 7 != 3)
    ruined = states.copy()
    ruined[np.setdiff1d(np.arange(len(ids)), rows)] = 1e9
    sums = TableSums(ruined, aims, ids, rows=rows, fewest=12, has_bias=has_bias)
    states, aims, ids = states[rows], aims[rows], [ids[row] for row in rows]
    counts = [sum(token in text for text in ids) for token in range(30)]
    assert sums.tokens.tolist() == [t for t in range(30) if counts[t] >= 12]
    assert 0 < len(sums.tokens) < 30
    solution = sums.solve(ridge, table_ridge)

    x, s, y = states.astype(float), shares_of(ids, sums.tokens), aims.astype(float)
    if has_bias:
        x, s, y = (m - m.mean(axis=0) for m in (x, s, y))
    mean = (x**2).sum() / x.shape[1]
    of_rows = table_ridge * mean * s.var(axis=0).sum() / (x**2).mean(axis=0).sum()
    if not has_bias:
        of_rows = table_ridge * mean * (s**2).mean(axis=0).sum() / (x**2).mean(axis=0).sum()
    both = np.concatenate([x, s], axis=1)
    penalty = np.diag([ridge * mean] * x.shape[1] + [of_rows] * s.shape[1])
    expected = np.linalg.solve(both.T @ both + penalty, both.T @ y)
    np.testing.assert_allclose(solution.weight, expected[: x.shape[1]], atol=2e-4)
    np.testing.assert_allclose(solution.rows, expected[x.shape[1] :], atol=2e-3)
    s = shares_of(ids, sums.tokens)
    told = states @ solution.weight.numpy() + s @ solution.rows.numpy() + solution.bias.numpy()
    if has_bias:
        np.testing.assert_allclose(told.mean(axis=0), aims.mean(axis=0), atol=1e-4)
    else:
        assert not solution.bias.any()


def test_a_table_of_full_rank_is_whole_and_of_less_the_nearest():
    states, aims, ids = made_texts()
    sums = TableSums(states, aims, ids, rows=np.arange(len(ids)), fewest=2)
    solution = sums.solve(1e-2, 1e-2)
    rows, onto = cut_rank(solution, sums.use, 5)
    torch.testing.assert_close(rows @ onto, solution.rows, atol=1e-5, rtol=1e-4)
    assert float(onto.square().mean()) == pytest.approx(float(solution.weight.square().mean()))
    rows, onto = cut_rank(solution, sums.use, 2)
    weights = sums.use.sqrt()[:, None]
    lost = float((weights * (rows @ onto - solution.rows)).square().sum())
    values = torch.linalg.svdvals(weights * solution.rows)
    assert lost == pytest.approx(float(values[2:].square().sum()), rel=1e-4)


def test_texts_that_share_no_token_have_no_table():
    states, aims, _ = made_texts(num_texts=4)
    with pytest.raises(ValueError, match="no token is in 2 texts"):
        TableSums(states, aims, [np.array([i]) for i in range(4)], rows=np.arange(4), fewest=2)


def teacher_over(home, *, has_table) -> TextEncoder:
    """A random map of the student's own states, and of a table of random token vectors."""
    start = read_encoder(home / "small")
    torch.manual_seed(9)
    num_tokens = start.backbone.get_input_embeddings().weight.shape[0]
    table = TokenTable(torch.arange(num_tokens), 3 * torch.randn(num_tokens, 8), num_tokens)
    projection = torch.nn.Linear(32 + 8 * has_table, DIM)
    spec = EncoderSpec(normalized=True, max_tokens=64)
    beside = table if has_table else None
    return TextEncoder(start.backbone, start.tokenizer, spec, projection, token_table=beside).eval()


def cosines(pair, teacher) -> np.ndarray:
    return small_student.cosines(pair, teacher, UNSEEN)


def test_what_words_alone_say_is_found_and_kept(home, capsys):
    teacher = teacher_over(home, has_table=True)
    plain = distill(home, teacher, kind="instant", head_steps=0)
    found = distill(home, teacher, kind="instant", head_steps=0, token_table=8)
    said = " ".join(capsys.readouterr().out.split())
    assert "token table: " in said
    assert " tokens, 8 dimensions, " in said
    student = found.student
    assert student.table_dim == 8
    assert student.projection.in_features == 40
    assert cosines(found, teacher).mean() > cosines(plain, teacher).mean() + 0.02


def test_a_table_that_finds_no_more_is_left_out_with_a_word(home, capsys):
    teacher = teacher_over(home, has_table=False)
    pair = distill(home, teacher, kind="instant", head_steps=0, token_table=8)
    assert pair.student.token_table is None
    assert "token table: the student has none (student.token_table): " in capsys.readouterr().out
    plain = distill(home, teacher, kind="instant", head_steps=0)
    np.testing.assert_array_equal(pair.encode_query(UNSEEN), plain.encode_query(UNSEEN))


def test_without_held_out_texts_there_is_none(home, capsys):
    teacher = teacher_over(home, has_table=True)
    settings = {"kind": "instant", "num_held_out": 0, "token_table": 8}
    assert distill(home, teacher, **settings).student.token_table is None
    assert "no held-out texts choose it" in capsys.readouterr().out


def test_it_moves_with_the_head_and_in_training_and_is_saved(home, tmp_path):
    teacher = teacher_over(home, has_table=True)
    instant = distill(home, teacher, kind="instant", head_steps=0, token_table=8)
    pair = distill(home, teacher, token_table=8, num_checks=0)
    before, after = instant.student.token_table, pair.student.token_table
    assert before.token_ids.tolist() == after.token_ids.tolist()
    assert not torch.equal(before.rows, after.rows)
    assert torch.isfinite(after.rows).all()
    pair.save(tmp_path / "pair")
    again = leafkit.load_pair(tmp_path / "pair")
    np.testing.assert_allclose(again.encode_query(UNSEEN), pair.encode_query(UNSEEN), atol=1e-5)


def test_steps_on_scores_read_the_table_and_leave_its_rows(home):
    teacher = teacher_over(home, has_table=True)
    losses = StudentLosses(score_kl=1.0)
    settings = {"kind": "instant", "token_table": 8, "losses": losses}
    moved = distill(home, teacher, head_steps=200, **settings).student
    still = distill(home, teacher, head_steps=0, **settings).student
    assert torch.equal(moved.token_table.rows, still.token_table.rows)
    weights = [one.projection.weight.detach() for one in (moved, still)]
    change = (weights[0] - weights[1]).abs().max(0).values
    assert float(change[:32].min()) > 0
    assert float(change[32:].min()) > 0  # what reads the table, too


def test_what_cannot_be_solved_is_left_out(home, monkeypatch, capsys):
    teacher = teacher_over(home, has_table=True)
    solve, calls = TableSums.solve, []

    def last_is_ruined(self, *args):
        found = solve(self, *args)
        calls.append(self)
        if self is not calls[0]:  # of all texts
            found.rows.fill_(torch.nan)
        return found

    monkeypatch.setattr(TableSums, "solve", last_is_ruined)
    pair = distill(home, teacher, kind="instant", head_steps=0, token_table=8)
    assert pair.student.token_table is None
    assert np.isfinite(pair.encode_query(UNSEEN)).all()
    assert "it cannot be solved" in " ".join(capsys.readouterr().out.split())


def test_all_processes_take_the_first_ones_choice(home, monkeypatch, capsys):
    """Another process's measure may differ, and with it whether there are further parameters."""
    world = read_world()
    monkeypatch.setattr(launch_world, "read_world", lambda: replace(world, rank=1, size=2))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    sent = []

    def broadcast(box, src):
        sent.append((box[0], src))
        box[0] = (replace(box[0][0], shares=tuple(0.0 for _ in box[0][0].shares)), box[0][1])

    monkeypatch.setattr(torch.distributed, "broadcast_object_list", broadcast)
    monkeypatch.setattr(pooled_states, "read_world", lambda: world)
    pair = distill(home, teacher_over(home, has_table=True), kind="instant", token_table=8)
    assert pair.student.token_table is None  # the first process found nothing with it
    assert [src for _, src in sent] == [0]


@pytest.mark.parametrize(
    "config",
    [{"kind": "static"}, {"head": "two_layer"}, {"head": "none"}],
)
def test_it_stands_beside_a_transformer_under_a_linear_head(home, config):
    with pytest.raises(UsageError, match=r"under student\.head=linear"):
        distill(home, f"model:{home / 'big'}", token_table=8, **config)


@pytest.mark.parametrize(
    ("fit_to", "said"),
    [
        ("documents", "on documents ("),
        ("queries", "on documents and queries ("),
        ("all", "on all given texts ("),
    ],
)
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_the_texts_of_the_closed_form_can_be_named(home, fit_to, said, ridge, capsys):
    distill(home, f"model:{home / 'big'}", kind="instant", fit_to=fit_to, ridge=ridge)
    lines = " ".join(capsys.readouterr().out.split())
    assert said in lines
    assert ("ridge 0.1 on" in lines) or not ridge


@pytest.mark.slow
def test_a_recipe_measures_it_and_its_card_says_how_to_load_it(home, tmp_path, start):
    write_encoder(teacher_over(home, has_table=True), tmp_path / "teacher", {})
    values = tiny.tiny_recipe(home, tmp_path / "ck")
    recipe = tiny.write_recipe(tmp_path / "tiny.yaml", values)
    many = tiny.write_pairs(tmp_path / "many.jsonl", count=440, num_test=20)
    words = (
        f"teacher.source=model:{tmp_path / 'teacher'}",
        f"data.corpus=jsonl:{many}",
        "student.num_ridge_texts=512",
    )
    run = start(recipe, "student.token_table=8", "inherit.precisions=[float32]", *words)
    student = read_encoder(run.folder / "student")
    report = collect_report(run, "leafkit distill")
    assert report.student.token_table == student.table_dim == 8
    assert RunReport.from_json(report.to_json()).student == report.student
    card = render_card(report)
    assert "SentenceTransformer" not in card
    assert "a table of token vectors of 8 dimensions" in card
    assert "library_name: leafkit" in card
    assert "a table of token vectors beside the transformer was solved with it" in card
    two = tmp_path / "two"
    done = tiny.run_cli(
        "distill",
        f"recipe={recipe}",
        f"checkpoints={two}",
        "student.token_table=8",
        *words,
        processes=2,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    other = read_encoder(two / "tiny" / "student")
    assert other.token_table.token_ids.tolist() == student.token_table.token_ids.tolist()
    torch.testing.assert_close(
        other.token_table.rows, student.token_table.rows, atol=1e-2, rtol=1e-2
    )
