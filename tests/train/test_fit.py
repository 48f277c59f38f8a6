"""Training in one process: golden curves, what stops it, and what it leaves behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import tiny
import torch

from leafkit.config import ContrastiveLossConfig, MixingConfig, OptimizerConfig
from leafkit.core.errors import LeafkitError
from leafkit.models.configure import enable_gradient_checkpointing
from leafkit.models.tiny import tiny_encoder
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import PairBatch, TrainingTable, collate
from leafkit.train.contrastive_module import ContrastiveModule
from leafkit.train.fit import add_loader, fit
from leafkit.train.leaf_module import LeafBatch, LeafModule

CPU = torch.device("cpu")
NUM_STEPS = 5
PAIRS = tiny.make_pairs(NUM_STEPS * 6)

# Computed on 2026-11-21 with torch 2.13 on x86-64, float32, one thread. A refactoring must not move
# them.
GOLDEN_LEAF = [
    2.012335777282715,
    1.9184436798095703,
    2.044433116912842,
    1.8862355947494507,
    2.1659512519836426,
]
GOLDEN_CONTRASTIVE = [
    3.0457892417907715,
    2.9743523597717285,
    3.0685815811157227,
    2.6631698608398438,
    2.6693358421325684,
]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**changes) -> OptimizerConfig:
    values = {
        "lr": 1e-3,
        "warmup_ratio": 0.2,
        "final_lr_ratio": 0.1,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
    }
    return OptimizerConfig(**values | changes)


def leaf_parts(scale: float = 1.0, **changes) -> tuple[LeafModule, BatchList]:
    """A student with W_out and batches of six texts with random targets."""
    student = tiny.make_encoder(dim=48, seed=3)
    targets = torch.nn.functional.normalize(
        torch.randn(len(PAIRS), 48, generator=torch.Generator().manual_seed(0)), dim=1
    )
    token_ids = student.tokenize([document for _, document in PAIRS], "document")

    def make(step: int) -> LeafBatch:
        rows = slice(6 * step, 6 * step + 6)
        return LeafBatch(token_ids[rows], scale * targets[rows], 6)

    return LeafModule(student, settings(**changes)), BatchList(NUM_STEPS, make)


def pair_table(encoder, relevant: list[np.ndarray] | None = None) -> TrainingTable:
    """A document per query; relevant to it alone unless said otherwise."""
    places, nothing = np.arange(len(PAIRS)), np.zeros(0, dtype=np.int64)
    return TrainingTable(
        queries=encoder.tokenize([query for query, _ in PAIRS], "query"),
        documents=encoder.tokenize([document for _, document in PAIRS], "document"),
        positives=places,
        negatives=[nothing] * len(PAIRS),
        relevant=relevant or [places[i : i + 1] for i in places],
        in_batch=places >= 0,
        soft=[nothing] * len(PAIRS),
    )


def pair_parts(
    num_anchors: int = 3, relevant: list[np.ndarray] | None = None, **changes
) -> tuple[ContrastiveModule, BatchList]:
    """An encoder, batches of six pairs with anchors, two dimensions."""
    encoder = tiny.make_encoder(seed=4)
    table = pair_table(encoder, relevant)
    anchors = torch.nn.functional.normalize(
        torch.randn(3, 32, generator=torch.Generator().manual_seed(1)), dim=1
    )

    def make(step: int) -> PairBatch:
        rows = np.arange(6 * step, 6 * step + 6)
        return collate(
            table,
            rows,
            MixingConfig(),
            seed=0,
            step=step,
            anchors=table.queries[:num_anchors],
            anchor_targets=anchors[:num_anchors],
        )

    loss = ContrastiveLossConfig(mrl_dims=[32, 16], mrl_weights=[1.0, 0.3])
    return ContrastiveModule(encoder, settings(**changes), loss), BatchList(NUM_STEPS, make)


def train(module, batches, precision=torch.float32, seed: int = 7) -> list[float]:
    return fit(module, batches, title="test", device=CPU, precision=precision, seed=seed)


@pytest.mark.parametrize(
    ("parts", "golden"), [(leaf_parts, GOLDEN_LEAF), (pair_parts, GOLDEN_CONTRASTIVE)]
)
def test_golden_losses(parts, golden):
    assert train(*parts()) == pytest.approx(golden, rel=1e-6)


@pytest.mark.parametrize("parts", [leaf_parts, pair_parts])
def test_two_runs_are_bit_identical(parts):
    first, second = parts(), parts()
    assert train(*first) == train(*second)
    for a, b in zip(first[0].encoder.parameters(), second[0].encoder.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("parts", [leaf_parts, pair_parts])
def test_every_weight_is_trained(parts):
    module, batches = parts(weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in module.encoder.named_parameters()}
    train(module, batches)
    still = [name for name, p in module.encoder.named_parameters() if torch.equal(p, before[name])]
    assert still == []


@pytest.mark.parametrize("parts", [leaf_parts, pair_parts])
def test_losses_fall_when_the_same_batch_is_seen_again(parts):
    module, batches = parts(lr=1e-2)
    losses = train(module, BatchList(30, lambda step: batches[0]))
    assert losses[-1] < 0.7 * losses[0]


def test_the_first_leaf_loss_is_the_mean_squared_distance():
    module, batches = leaf_parts()
    batch = batches[0]
    with torch.no_grad():
        vectors = module.encoder.finish(module.encoder(batch.token_ids))
    expected = float((vectors - batch.targets).square().sum(dim=1).mean())
    assert train(module, batches)[0] == pytest.approx(expected, rel=1e-6)


def test_anchors_add_their_mean_squared_distance():
    with_anchors, without = train(*pair_parts())[0], train(*pair_parts(num_anchors=0))[0]
    module, batches = pair_parts()
    with torch.no_grad():
        vectors = module.encoder.finish(module.encoder(batches[0].anchors))
    expected = float((vectors - batches[0].anchor_targets).square().sum(dim=1).mean())
    assert with_anchors - without == pytest.approx(expected, rel=1e-4)


def test_rows_whose_documents_answer_one_another_are_no_negatives():
    """Six rows of one group have no negative at all: no loss and no gradient."""
    group = np.arange(len(PAIRS))
    module, batches = pair_parts(num_anchors=0, relevant=[group] * len(PAIRS), weight_decay=0.0)
    before = module.encoder.backbone.embeddings.word_embeddings.weight.detach().clone()
    assert train(module, BatchList(1, lambda step: batches[0])) == [0.0]
    assert torch.equal(module.encoder.backbone.embeddings.word_embeddings.weight, before)


def test_a_stand_in_row_takes_part_in_no_loss():
    module, batches = leaf_parts(weight_decay=0.0)
    before = module.encoder.projection.weight.detach().clone()
    batch = batches[0]
    assert train(
        module, BatchList(1, lambda step: LeafBatch(batch.token_ids, batch.targets, 6, weight=0.0))
    ) == [0.0]
    assert torch.equal(module.encoder.projection.weight, before)


@pytest.mark.parametrize("parts", [leaf_parts, pair_parts])
def test_a_loss_that_is_not_finite_stops_the_run(parts):
    module, batches = parts()
    with torch.no_grad():
        module.encoder.backbone.embeddings.word_embeddings.weight.fill_(float("nan"))
    with pytest.raises(LeafkitError, match="the loss of step 0 is not finite") as caught:
        train(module, batches)
    assert "precision=float32" in caught.value.hint


def test_a_gradient_that_is_not_finite_stops_the_run_before_the_step():
    module, batches = leaf_parts()
    module.encoder.projection.weight.register_hook(lambda grad: grad * float("inf"))
    before = module.encoder.projection.bias.detach().clone()
    with pytest.raises(LeafkitError, match="the gradient of step 0 is not finite"):
        train(module, batches)
    assert torch.equal(module.encoder.projection.bias, before)


@pytest.mark.parametrize("parts", [leaf_parts, pair_parts])
def test_a_training_that_runs_ahead_of_its_device_is_the_same_training(parts, ahead):
    module, batches = parts()
    expected = train(module, batches)
    ahead(True)
    other, batches = parts()
    assert train(other, batches) == pytest.approx(expected, abs=1e-6)
    for name, weight in module.state_dict().items():
        if "key.bias" not in name:  # it changes no softmax: AdamW scales up what is rounding
            torch.testing.assert_close(other.state_dict()[name], weight, atol=1e-5, rtol=1e-5)


def test_a_training_that_runs_ahead_ends_where_a_number_is_not_finite(ahead):
    ahead(True)
    module, batches = leaf_parts()
    module.encoder.projection.weight.register_hook(lambda grad: grad * float("inf"))
    with pytest.raises(LeafkitError, match="the gradient of step 0 is not finite"):
        train(module, batches)
    module, batches = leaf_parts()
    with torch.no_grad():
        module.encoder.projection.weight.fill_(float("nan"))
    with pytest.raises(LeafkitError, match="the loss of step 0 is not finite"):
        train(module, BatchList(1, lambda step: batches[0]))  # no later step finds it
    with pytest.raises(LeafkitError, match="is not finite"):
        module.on_save_checkpoint({})


def test_gradients_are_scaled_down_to_the_norm():
    """With plain SGD in AdamW's place a step is as long as the clipped gradient."""
    module, batches = leaf_parts(scale=50.0, max_grad_norm=0.25)
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=1.0)
    before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
    train(module, BatchList(1, lambda step: batches[0]))
    after = torch.cat([p.detach().flatten() for p in module.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.25, rel=1e-4)


def test_bf16_computes_under_autocast_and_keeps_float32_weights():
    module, batches = leaf_parts()
    losses, exact = train(module, batches, torch.bfloat16), train(*leaf_parts())
    assert losses != exact
    assert losses == pytest.approx(exact, rel=0.02)
    assert {p.dtype for p in module.encoder.parameters()} == {torch.float32}


def test_the_encoder_is_left_in_evaluation_mode_without_dropout():
    module, batches = leaf_parts()
    train(module, batches)
    assert not module.encoder.training
    assert module.encoder.device == CPU


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(*leaf_parts())
    assert list(tmp_path.iterdir()) == []


# --- the loader


def test_batches_are_made_once_and_in_order_by_one_other_thread():
    module, batches = leaf_parts()
    made: list[tuple[int, str]] = []

    def make(step: int) -> LeafBatch:
        made.append((step, threading.current_thread().name))
        return batches[step]

    watched = BatchList(NUM_STEPS, make)
    assert train(module, watched) == train(*leaf_parts())
    assert [step for step, _ in made] == list(range(NUM_STEPS))
    assert [name.startswith("batches") for _, name in made] == [False, *[True] * (NUM_STEPS - 1)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_outside_training_any_batch_is_made_when_it_is_asked_for():
    batches = BatchList(3, lambda step: step * 10)
    assert [batches[2], batches[0], batches[2]] == [20, 0, 20]
    with batches.made_ahead():
        assert [batches[0], batches[2], batches[1], batches[2]] == [0, 20, 10, 20]


def test_a_batch_that_cannot_be_made_stops_the_run_with_its_own_words():
    module, batches = leaf_parts()

    def make(step: int) -> LeafBatch:
        if step == 2:
            raise LeafkitError("row 7 is damaged")
        return batches[step]

    with pytest.raises(LeafkitError, match="row 7 is damaged"):
        train(module, BatchList(NUM_STEPS, make))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_the_wait_for_the_loader_is_measured_and_said(capsys):
    module, batches = leaf_parts()

    def make(step: int) -> LeafBatch:
        if step == 0:
            time.sleep(0.2)  # nothing can be computed meanwhile
        return batches[step]

    metrics: dict = {}
    fit(
        module,
        BatchList(NUM_STEPS, make),
        title="test",
        device=CPU,
        precision=torch.float32,
        seed=7,
        metrics=metrics,
    )
    found = metrics["loader"]
    assert 0.2 <= found["waited_s"] < found["training_s"]
    assert found["share"] == pytest.approx(found["waited_s"] / found["training_s"])
    assert (
        f"loader: the model waited {found['share']:.1%} of {found['training_s']:.0f} s"
        in capsys.readouterr().out
    )


def test_the_phases_of_a_stage_add_up():
    metrics: dict = {}
    add_loader(metrics, 1.0, 10.0)
    add_loader(metrics, 2.0, 10.0)
    assert metrics == {"loader": {"waited_s": 3.0, "training_s": 20.0, "share": 0.15}}


@pytest.mark.parametrize("method", ["leaf", "contrastive"])
@pytest.mark.parametrize("architecture", ["bert", "qwen2", "mistral", "modernbert"])
def test_checkpointed_layers_are_computed_twice_with_the_same_gradients(architecture, method):
    """Recomputation happens in training mode alone, and somebody who measures between two batches
    leaves evaluation mode; dropout, which that mode has too, stays off.
    """
    losses, calls, gradients = [], [], []
    for is_checkpointed in (False, True):
        encoder = tiny_encoder(architecture, tiny.make_tokenizer(), seed=1, max_tokens=64)
        if is_checkpointed:
            enable_gradient_checkpointing(encoder)
        linear = next(m for m in encoder.backbone.modules() if isinstance(m, torch.nn.Linear))
        linear.register_forward_hook(lambda *_, calls=calls: calls.append(len(losses)))
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
        table = pair_table(encoder)
        targets = torch.randn(len(PAIRS), encoder.dim, generator=torch.Generator().manual_seed(0))

        def make(step: int, table=table, targets=targets) -> object:
            rows = np.arange(6 * step, 6 * step + 6)
            if method == "leaf":
                return LeafBatch([table.documents[i] for i in rows], targets[rows], 6)
            return collate(table, rows, MixingConfig(), seed=0, step=step)

        loss = ContrastiveLossConfig(anchor_weight=0.0)
        module = (
            LeafModule(encoder, settings())
            if method == "leaf"
            else ContrastiveModule(encoder, settings(), loss)
        )
        module.on_train_batch_end = lambda *_, encoder=encoder: encoder.eval()
        of_steps: list[torch.Tensor] = []
        module.on_before_optimizer_step = lambda *_, encoder=encoder, of_steps=of_steps: (
            of_steps.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
        )
        gradients.append(of_steps)
        losses.append(train(module, BatchList(2, make)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for plain, recomputed in zip(*gradients, strict=True):
        assert float(plain.norm()) > 0.1
        torch.testing.assert_close(recomputed, plain, atol=1e-6, rtol=0)
    assert len(gradients[0]) == 2
    num_plain, num_checkpointed = calls.count(0), calls.count(1)
    assert num_checkpointed == 2 * num_plain > 0
