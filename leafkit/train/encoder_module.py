"""What the Lightning modules share: an encoder, its optimizer, checked gradients, logging."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import lightning
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

from leafkit.config import OptimizerConfig
from leafkit.core.errors import UsageError
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.batch_data import BatchData
from leafkit.train.devices.sharded import gather_into, shard, whole
from leafkit.train.devices.watched import WatchedNumbers
from leafkit.train.optimizer import build_optimizer


class EncoderModule(lightning.LightningModule):
    """An encoder in training; the methods (LEAF, contrastive, static) add their ``training_step``.

    Logs ``train/loss`` (of the global batch), ``train/lr`` and ``train/grad_norm`` (before it is
    clipped). Clips by its own max_grad_norm: a Trainer with ``gradient_clip_val`` is refused.

    Args:
        encoder: trained in place; its dropout is switched off when training starts. Under
            Lightning's ``ModelParallelStrategy`` what trains are shares of it, and it stays in main
            memory until the fit ends.
        optimizer: AdamW's numbers.
        num_steps: optimizer steps, over which the learning rate falls. None asks the Trainer's data
            module (``DistillationData``, ``ContrastiveData``), which counts its own batches.
    """

    def __init__(
        self, encoder: Encoder, optimizer: OptimizerConfig, num_steps: int | None = None
    ) -> None:
        super().__init__()
        self.encoder: Encoder = encoder
        self.optimizer_config = optimizer
        self.num_steps = num_steps
        self.losses: list[float] = []
        self._watched = WatchedNumbers()
        self._is_checkpointed = False
        # in a list: a module of a module would be moved to the device with it
        self._given: list[Encoder] = []
        # plain numbers: a checkpoint loads with weights_only=True
        self.hparams.update(optimizer=asdict(optimizer))

    def configure_model(self) -> None:
        """Share the weights out among the processes, where the Trainer's strategy is made for it.

        Raises:
            UsageError: of an encoder that cannot be.
        """
        strategy = self.trainer.strategy
        if not isinstance(strategy, ModelParallelStrategy) or self._given:
            return
        if not isinstance(self.encoder, TextEncoder):
            raise UsageError(
                f"{type(self.encoder).__name__} is trained whole, ModelParallelStrategy is for "
                "transformers",
                "DDPStrategy",
            )
        self._given = [self.encoder]
        self.encoder = shard(self.encoder, strategy.device_mesh["data_parallel"])

    def gather(self) -> None:
        """Bring the encoder that was given up to date, where shares of it train. All processes take
        part.
        """
        for given in self._given:
            gather_into(given, self.encoder)

    def on_fit_end(self) -> None:
        """The encoder that was given is the module's own again, with what was learnt."""
        self.gather()
        if self._given:
            self.encoder = self._given.pop()

    def on_fit_start(self) -> None:
        """Switch dropout off, and give the settings to the loggers.

        A regression target that was computed once has no noise for dropout to average out.
        """
        self.encoder.disable_dropout()
        self._is_checkpointed = any(
            getattr(module, "gradient_checkpointing", False) for module in self.modules()
        )
        for logger in self.loggers:
            logger.log_hyperparams(dict(self.hparams))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Training mode where layers are to be recomputed, which transformers asks for and
        Lightning leaves to the caller. Before every batch: whoever measures the encoder between
        two batches leaves it in evaluation mode.
        """
        if self._is_checkpointed:
            self.encoder.train()

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Batches stay as they are: Lightning's own transfer would visit every token id, and
        refuses frozen classes.
        """
        return batch

    def configure_optimizers(self) -> Any:
        """AdamW and its schedule, stepped once per optimizer step."""
        optimizer, schedule = build_optimizer(self, self.optimizer_config, self.planned_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def planned_steps(self) -> int:
        """Optimizer steps of this training, from the data and the settings.

        Lightning's own estimate is not asked for: computing it resets the position in the data of a
        run that resumes.

        Raises:
            UsageError: neither ``num_steps`` nor a data module tells.
        """
        if self.num_steps is not None:
            return self.num_steps
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, BatchData):
            raise UsageError(
                "the learning rate falls over the optimizer steps, and nothing says how many",
                f"{type(self).__name__}(..., num_steps=N), or Trainer.fit(module, data) with "
                "DistillationData or ContrastiveData",
            )
        return data.count_steps()

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip by the optimizer's own limit, and stop where the gradient is not a number; on a GPU
        that is seen one step later.

        Raises:
            UsageError: the Trainer has another limit.
            LeafkitError: the gradient is not finite.
        """
        if gradient_clip_val is not None:
            raise UsageError(
                f"Trainer(gradient_clip_val={gradient_clip_val}) beside "
                f"max_grad_norm={self.optimizer_config.max_grad_norm:g} of the optimizer",
                "leave gradient_clip_val out and set max_grad_norm",
            )
        trained = [weight for weight in self.parameters() if weight.grad is not None]
        found = torch.nn.utils.get_total_norm([w.grad for w in trained if w.grad is not None])
        norm = whole(found)  # of shares the norm has shares too
        torch.nn.utils.clip_grads_with_norm_(trained, self.optimizer_config.max_grad_norm, norm)
        self._watched.watch("gradient", self.global_step, norm)
        self.log("train/grad_norm", norm)

    def record(self, loss: torch.Tensor) -> None:
        """Add the global batch's loss to the curve and log it with the learning rate. On a GPU the
        curve is one step behind until the training ends: nothing waits for the device.

        Raises:
            LeafkitError: the loss is not finite.
        """
        value = (
            self.all_gather(loss.detach()).mean() if self.trainer.world_size > 1 else loss.detach()
        )
        self._watched.watch("loss", self.global_step, value, self.losses.append)
        self.log("train/loss", value, prog_bar=True)
        # a plain number would be copied to the device, which is waited for
        self.log("train/lr", torch.tensor(self.trainer.optimizers[0].param_groups[0]["lr"]))

    def on_train_end(self) -> None:
        """No number stays on its way."""
        self._watched.settle()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The loss curve travels with the weights; nothing is saved behind a loss or gradient that
        is not finite.

        Raises:
            LeafkitError: one is not.
        """
        self._watched.settle()
        checkpoint["losses"] = list(self.losses)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the curve where it was."""
        self.losses[:] = checkpoint["losses"]
