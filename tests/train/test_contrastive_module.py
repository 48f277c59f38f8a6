"""The contrastive step with every signal on, against its definitions, row by row; one process
against two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import contrastive_case as case
import pytest
import tiny
import torch

from leafkit.config import ContrastiveLossConfig, OptimizerConfig
from leafkit.train.contrastive_module import ContrastiveModule

# Computed on 2026-11-21 with torch 2.13 on x86-64, float32, one thread. A refactoring must not move
# them.
GOLDEN_FULL = [4.606895923614502, 4.167240142822266, 3.7668657302856445, 3.9091649055480957]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cosine(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    """Of the first ``dim`` components."""
    a, b = a[:dim], b[:dim]
    return (a @ b) / (a.norm() * b.norm())


def mixtures(
    row: int, q: torch.Tensor, documents: list[torch.Tensor], plan: tuple
) -> list[torch.Tensor]:
    """What a row mixes, out of what collate drew: pairs of documents, their shares, and lists of
    documents.
    """
    pairs, shares, lists = plan
    if len(case.NEGATIVES[row]) < 2:
        return []
    unit = [d / d.norm() for d in documents]
    mixed = [
        share * unit[a] + (1 - share) * unit[b] for (a, b), share in zip(pairs, shares, strict=True)
    ]
    for members in lists:
        weights = (
            torch.stack([cosine(q, documents[m], 32) / case.MIXING.temperature for m in members])
            .detach()
            .exp()
        )
        mixed.append(
            sum(w / weights.sum() * unit[m] for w, m in zip(weights, members, strict=True))
        )
    return mixed


def loss_by_definition(name: str, encoder, step: int) -> torch.Tensor:
    """Text by text, row by row and in float64, from the issue's formulas; only the random draws are
    collate's.
    """
    chosen = case.CASES[name]
    s, labels, has_soft = chosen.loss, chosen.soft_labels, chosen.has_soft
    table, batch = case.make_table(encoder, has_soft), case.BATCHES[step]
    plans = drawn(name, encoder, step)
    documents = [encoder([ids])[0].double() for ids in table.documents]
    queries = {int(row): encoder([table.queries[row]])[0].double() for row in batch}
    brought = sorted(
        {case.POSITIVES[i] for i in batch} | {d for i in batch for d in case.NEGATIVES[i]}
    )
    total = torch.zeros((), dtype=torch.float64)
    for dim, weight in zip(s.mrl_dims, s.mrl_weights, strict=True):
        contrastive, soft = [], []
        for row in map(int, batch):
            q, positive, hard = queries[row], case.POSITIVES[row], case.NEGATIVES[row]
            s_positive = cosine(q, documents[positive], dim)
            allowed = [
                d
                for d in brought
                if d not in case.RELEVANT[row] and (case.IN_BATCH[row] or d in hard)
            ]
            negatives = [documents[d] for d in allowed] + mixtures(row, q, documents, plans[row])
            scores = [cosine(q, n, dim) for n in negatives]
            scores = [x for x in scores if x <= s_positive + s.false_negative_margin]
            exponentials = torch.stack([s_positive, *scores]).div(s.temperature).exp()
            p = exponentials[0] / exponentials.sum()
            contrastive.append((1 - p) ** s.focal_gamma * -p.log() if scores else 0 * p)
            if has_soft:
                student = torch.stack([cosine(q, documents[d], dim) for d in [positive, *hard]])
                teacher = torch.from_numpy(table.soft[row])
                if labels.kind == "mse":
                    soft.append(((student - teacher) ** 2).mean())
                else:
                    t, u = (
                        (x / labels.temperature).exp() / (x / labels.temperature).exp().sum()
                        for x in (teacher, student)
                    )
                    soft.append((t * (t / u).log()).sum())
        total = total + weight * s.contrastive_weight * torch.stack(contrastive).mean()
        if has_soft:
            total = total + weight * labels.weight * torch.stack(soft).mean()
        for vectors in (list(queries.values()), [documents[d] for d in brought]):
            pairs = [cosine(a, b, dim) ** 2 for i, a in enumerate(vectors) for b in vectors[:i]]
            total = total + weight * s.gor_weight * torch.stack(pairs).mean()
    if s.anchor_weight:
        ids, targets = case.make_anchors(encoder)
        vectors = [encoder([i])[0].double() for i in ids]
        distances = [
            ((v / v.norm() - t) ** 2).sum() for v, t in zip(vectors, targets.double(), strict=True)
        ]
        total = total + s.anchor_weight * torch.stack(distances).mean()
    return total


def drawn(name: str, encoder, step: int) -> dict[int, tuple]:
    """Pairs, shares and lists of each row, in documents."""
    part = case.make_batch(encoder, name, step)
    if part.mixing is None:
        return {int(row): ([], [], []) for row in case.BATCHES[step]}
    document = {tuple(ids): d for d, ids in enumerate(case.make_table(encoder, False).documents)}
    column = [document[tuple(ids)] for ids in part.documents]
    plans, mixing = {}, part.mixing
    for place, row in enumerate(map(int, case.BATCHES[step])):
        pairs = [
            (column[a], column[b])
            for a, b in zip(mixing.first[place], mixing.second[place], strict=True)
        ]
        lists = [
            [column[part.own[place, 1 + k]] for k in members.nonzero()[:, 0]]
            for members in mixing.listed[place]
        ]
        plans[row] = (pairs, mixing.share[place].double().tolist(), lists)
    return plans


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("name", case.CASES)
def test_a_step_is_what_the_definitions_say(name):
    encoder = case.make_encoder()
    expected = loss_by_definition(name, encoder, 0)
    expected.backward()
    gradients = torch.cat([p.grad.flatten() for p in encoder.parameters()])
    losses, ours = case.train(name, 1)
    assert losses[0] == pytest.approx(expected.item(), rel=1e-5)
    assert float(gradients.norm()) > 1e-2
    assert relative(ours, gradients) < 1e-5


@pytest.mark.parametrize("step", [1, 2])
def test_other_batches_are_what_the_definitions_say(step, monkeypatch):
    """With other rows together: each row's documents, masks and draws follow it."""
    expected = loss_by_definition("full", case.make_encoder(), step)
    make = case.make_batch
    monkeypatch.setattr(
        case, "make_batch", lambda encoder, name, _, *world: make(encoder, name, step, *world)
    )
    assert case.train("full", 1)[0][0] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("num_negatives", [0, 1])
def test_rows_with_nothing_to_mix_are_what_the_definitions_say(num_negatives, monkeypatch):
    """No row has two hard negatives: all mixtures are masked, and no column of theirs spoils a
    gradient.
    """
    monkeypatch.setattr(case, "NEGATIVES", [[8 + i % 6][:num_negatives] for i in range(12)])
    monkeypatch.setattr(case, "RELEVANT", [[positive] for positive in case.POSITIVES])
    encoder = case.make_encoder()
    expected = loss_by_definition("full", encoder, 0)
    expected.backward()
    losses, ours = case.train("full", 1)
    assert losses[0] == pytest.approx(expected.item(), rel=1e-5)
    assert relative(ours, torch.cat([p.grad.flatten() for p in encoder.parameters()])) < 1e-5


def test_golden_losses():
    assert case.train("full")[0] == pytest.approx(GOLDEN_FULL, rel=1e-6)


def test_two_runs_are_bit_identical():
    (first, gradients), (second, others) = case.train("full"), case.train("full")
    assert first == second
    assert torch.equal(gradients, others)


@pytest.mark.slow
def test_every_signal_changes_the_loss(monkeypatch):
    """Else the comparisons above could agree on leaving one out."""
    losses = {}
    of_loss = {
        "none": {},
        "focal": {"focal_gamma": 0.0},
        "orthogonality": {"gor_weight": 0.0},
        "anchors": {"anchor_weight": 0.0},
        "margin": {"false_negative_margin": 2.0},
        "dims": {"mrl_dims": [32], "mrl_weights": [1.0]},
    }
    changed = {
        name: case.Case(loss=case.replace(case.LOSS, **change)) for name, change in of_loss.items()
    }
    changed |= {
        "soft": case.Case(soft_labels=case.replace(case.SOFT_LABELS, weight=0.0)),
        "soft temperature": case.Case(soft_labels=case.replace(case.SOFT_LABELS, temperature=1.0)),
        "mixing": case.Case(mixing=case.MixingConfig()),
        "mixing temperature": case.Case(mixing=case.replace(case.MIXING, temperature=5.0)),
    }
    for name, other in changed.items():
        monkeypatch.setitem(case.CASES, "changed", other)
        losses[name] = case.train("changed", 1)[0][0]
    assert len(set(losses.values())) == len(losses)
    assert all(
        abs(value - losses["none"]) > 1e-4 for name, value in losses.items() if name != "none"
    )


@pytest.mark.parametrize(("margin", "is_masked"), [(2.0, False), (1.9, True), (0.1, True)])
def test_a_margin_of_2_masks_nothing_and_less_does(margin, is_masked):
    """Negatives opposite to their positives: rounding must not put a cosine further than 2 away."""
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(300, 32, generator=generator)
    candidates = torch.cat([-queries, queries])  # positives, then negatives
    own = torch.eye(300, dtype=torch.bool)
    batch = SimpleNamespace(
        mixing=None, positives=torch.arange(300), masked=~torch.cat([own, own], dim=1)
    )
    loss = ContrastiveLossConfig(false_negative_margin=margin, temperature=0.1)
    module = ContrastiveModule(tiny.make_encoder(), OptimizerConfig(), loss)
    found = module._contrastive(queries, candidates, batch).item()
    assert found == pytest.approx(0.0 if is_masked else 20.0, abs=1e-3)


def test_bf16_rounds_the_encoder_and_no_score():
    """The loss of the vectors that the encoder gave under autocast, computed outside of it."""
    exact, low = case.train("plain", 1)[0][0], case.train("plain", 1, torch.bfloat16)[0][0]
    encoder = case.make_encoder()
    forward = encoder.forward

    def rounded(ids):
        with torch.autocast("cpu", torch.bfloat16):
            return forward(ids)

    encoder.forward = rounded
    with torch.no_grad():
        expected = loss_by_definition("plain", encoder, 0).item()
    assert low != exact
    assert low == pytest.approx(expected, rel=1e-4)


def write_shares(folder: Path, processes: int) -> dict[int, dict]:
    """What every process computed."""
    path = os.pathsep.join([str(tiny.ROOT), str(tiny.ROOT / "tests")])
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, case.__file__, str(folder)]
    done = subprocess.run(
        command,
        env=tiny.environment(PYTHONPATH=path),
        timeout=900,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {rank: torch.load(folder / f"{rank}.pt") for rank in range(processes)}


@pytest.mark.slow
def test_two_processes_compute_what_one_computes(tmp_path):
    encoder = case.make_encoder()
    for step, is_none in ((0, False), (3, True)):
        widths = [
            len(case.make_batch(encoder, "full", step, rank, 2).documents) for rank in range(2)
        ]
        assert widths[0] != widths[1]  # so that there is padding
        assert (min(widths) == 0) == is_none
    shares = write_shares(tmp_path, 2)
    for name in case.CASES:
        losses, gradients = case.train(name)
        for rank, found in shares.items():
            assert found[name][0][0] == pytest.approx(losses[0], rel=1e-5), (name, rank)
            # after steps of AdamW
            assert found[name][0] == pytest.approx(losses, rel=1e-4), (
                name,
                rank,
            )
            assert relative(found[name][1], gradients) < 1e-5, (name, rank)
