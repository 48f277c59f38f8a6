"""Students by sentence-transformers' own trainer within a budget of wall-clock seconds, and what
all ways of benchmarks/against.py have in common.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from lib.case import Case
    from lib.timed import Clock

ST_BATCH = 32  # LEAF's; sentence-transformers' own default of 8 is slower
ST_WARMUP = 0.05  # as leafkit's
RIDGE = 1e-3
TRAINED = ("embed-distill", "mse", "closed-form-mse")  # ways at a learning rate of their own
_FIT_SHARE = 0.3  # of a budget may pass before a map that is trained on is fitted
_TEXTS_PER_LOOK = 128  # encoded between two looks at the clock
Embed = Callable[[Sequence[str], str, int], np.ndarray]  # texts, role, limit -> (n, D)


def base_of(way: str) -> str:
    """The key of ``WAYS``.

    >>> base_of("mse, lr 0.001")
    'mse'
    """
    return way.partition(",")[0]


def at_rates(ways: Sequence[str], rates: Sequence[float]) -> dict[str, list[str]]:
    """Words of the child by way; one for each learning rate where the way is a peer that trains.

    >>> at_rates(["leafkit", "mse"], [1e-4])
    {'leafkit': [], 'mse, lr 0.0001': ['--peer-lr', '0.0001']}
    """
    found: dict[str, list[str]] = {}
    for way in ways:
        if way in TRAINED:
            for rate in rates:
                found[f"{way}, lr {rate:g}"] = ["--peer-lr", f"{rate:g}"]
        else:
            found[way] = []
    return found


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished student.

    Attributes:
        embed: its vectors, of any length.
        seconds: that the clock showed.
        cpu_s: likewise, of all threads.
        texts: that it learned from, each as often as it was seen.
        is_complete: more time would change nothing.
        note: what a reader must know.
    """

    embed: Embed
    seconds: float
    cpu_s: float
    texts: int
    is_complete: bool = False
    note: str = ""


def embed_distill(case: Case, options: argparse.Namespace) -> Ran:
    """sentence-transformers' EmbedDistillLoss; its projection, which it leaves out of the saved
    model, is put behind the student by hand.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import EmbedDistillLoss

    from lib.timed import Clock

    clock = Clock(60 * options.minutes)
    model = SentenceTransformer(start_folder(case), device="cpu")
    model.max_seq_length = limit_of(case, 0)
    loss = EmbedDistillLoss(
        model, distance_metric=options.distance, projection_dim=case.teacher.model.dim
    )
    steps = _train(case, options, clock, model, loss=loss)
    assert loss.projection is not None
    weight = loss.projection.weight.detach().float().numpy()
    bias = loss.projection.bias.detach().float().numpy()

    def embed(texts: Sequence[str], role: str, limit: int) -> np.ndarray:
        return encode(case, model, texts, role, limit=limit) @ weight.T + bias

    note = f"{steps} steps of {ST_BATCH}, {options.distance}, projection added by hand"
    return Ran(embed, clock.seconds, clock.cpu_s, steps * ST_BATCH, note=note)


def mse(case: Case, options: argparse.Namespace, *, begins_fitted: bool = False) -> Ran:
    """sentence-transformers' MSELoss on a student with a Dense module onto the teacher's
    dimensions.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.losses import MSELoss
    from sentence_transformers.models import Dense
    from torch import nn

    from lib.timed import Clock

    clock = Clock(60 * options.minutes)
    start = SentenceTransformer(start_folder(case), device="cpu")
    width = start.get_embedding_dimension()
    dense = Dense(width, case.teacher.model.dim, activation_function=nn.Identity())
    # transformer and pooling; a Normalize behind them would stand before the Dense
    model = SentenceTransformer(modules=[start[0], start[1], dense], device="cpu")
    model.max_seq_length = limit_of(case, 0)
    note = ""
    if begins_fitted:
        bare = SentenceTransformer(modules=[start[0], start[1]], device="cpu")
        note = f", Dense fitted to {_fit(case, options, clock, bare, dense=dense):,} texts first"
    steps = _train(case, options, clock, model, loss=MSELoss(model))

    def embed(texts: Sequence[str], role: str, limit: int) -> np.ndarray:
        return encode(case, model, texts, role, limit=limit)

    note = f"{steps} steps of {ST_BATCH}{note}"
    return Ran(embed, clock.seconds, clock.cpu_s, steps * ST_BATCH, note=note)


def mse_from_closed_form(case: Case, options: argparse.Namespace) -> Ran:
    """The same, the Dense module set to the ridge solution of as many texts as a third of the
    budget encodes, so that training begins where a closed form ends.
    """
    return mse(case, options, begins_fitted=True)


def _fit(case: Case, options: argparse.Namespace, clock: Clock, model: Any, *, dense: Any) -> int:
    """Set a Dense module to the ridge solution over a model's vectors; texts that it was fitted
    to.
    """
    import torch

    from leafkit.evaluation.diagnosis.spectrum import sum_for_ridge

    model.max_seq_length = limit_of(case, 0)
    order = np.random.default_rng(options.seed).permutation(len(case.rows))
    found: list[np.ndarray] = []
    done = 0
    while done < len(order) and clock.seconds < _FIT_SHARE * clock.budget_s:
        part = [case.rows[i][0] for i in order[done : done + _TEXTS_PER_LOOK]]
        # the texts have their prompts already
        found.append(model.encode(part, batch_size=ST_BATCH, show_progress_bar=False))
        done += len(part)
    if not found:
        raise SystemExit("the budget is over before a text is encoded")
    states = np.concatenate(found).astype(np.float32)
    solution = sum_for_ridge(states, case.vectors()[order[:done]]).solve(RIDGE)
    with torch.no_grad():
        dense.linear.weight.copy_(torch.from_numpy(solution.weight.T))
        dense.linear.bias.copy_(torch.from_numpy(solution.bias))
    return done


def _train(case: Case, options: argparse.Namespace, clock: Clock, model: Any, *, loss: Any) -> int:
    """Steps of sentence-transformers' trainer until the clock's budget is over.

    The learning rate warms up and falls to 0 over the budget's time, as its linear schedule does
    over steps.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from transformers import TrainerCallback

    class Timed(SentenceTransformerTrainer):
        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            began_s = clock.seconds
            length_s = max(clock.budget_s - began_s, 1e-9)

            def share(step: int) -> float:
                return lr_share((clock.seconds - began_s) / length_s)

            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, share
            )
            return self.lr_scheduler

    class StopInTime(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            control.should_training_stop = clock.left_s <= 0

    rows = Dataset.from_dict({"text": [text for text, _ in case.rows], "label": case.vectors()})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder,
            per_device_train_batch_size=ST_BATCH,
            num_train_epochs=1_000_000,
            learning_rate=options.peer_lr,
            use_cpu=True,
            bf16=str(case.run.precision) == "torch.bfloat16",
            seed=options.seed,
            save_strategy="no",
            report_to=[],
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = Timed(
            model=model,
            args=arguments,
            train_dataset=rows,
            loss=loss,
            callbacks=[StopInTime()],
        )
        trainer.train()
    model.eval()
    return int(trainer.state.global_step)


def lr_share(progress: float) -> float:
    """Learning rate after a share of the time, of the peak.

    >>> lr_share(0.025), lr_share(0.05), lr_share(1.0), lr_share(1.2)
    (0.5, 1.0, 0.0, 0.0)
    """
    if progress < ST_WARMUP:
        return progress / ST_WARMUP
    return max(0.0, (1 - progress) / (1 - ST_WARMUP))


def model_folder(reference: str) -> str:
    from leafkit.models.checkpoint import find_model

    return str(find_model(reference, "", False))


def start_folder(case: Case) -> str:
    return model_folder(case.run.recipe.student.init)


def limit_of(case: Case, limit: int) -> int:
    """Where the peers' students cut a text: where leafkit's does. 0 asks for the longest that is
    trained on.
    """
    from leafkit.models.checkpoint import load_encoder

    config = load_encoder(case.run.recipe.student.init).backbone.config
    own = min(case.teacher.model.max_tokens, getattr(config, "max_position_embeddings", 512))
    limits = case.home.limits
    trained = max(limits.query or own, limits.document or own)
    return min(limit or trained, own)


def encode(case: Case, model: Any, texts: Sequence[str], role: str, *, limit: int) -> np.ndarray:
    """(n, d) of a SentenceTransformer, the teacher's prompt before each text."""
    model.max_seq_length = limit_of(case, limit)
    prompt = case.teacher.model.prompt(role)
    found = model.encode(
        [prompt + text for text in texts], batch_size=ST_BATCH, show_progress_bar=False
    )
    return np.asarray(found, dtype=np.float32)
