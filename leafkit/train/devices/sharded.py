"""Weights, gradients and moments shared out among processes (FSDP2): for a model that does not fit
one device.

The states that a training saves are whole: any number of processes, sharded or not, goes on from
them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from leafkit.core.errors import UsageError
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.packed.backbone import why_padded
from leafkit.models.packed.sharding import shard_layers
from leafkit.models.text_encoder import TextEncoder


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, of one dimension, with states that are written whole by the
    first process, through the Trainer's own ``CheckpointIO``, and read back like DDP's: before the
    callbacks' ``on_fit_start``.

    Args:
        num_processes: of the launch, among which everything is shared out.
        collectives: torch's name of the backend of their group.
    """

    def __init__(self, num_processes: int, collectives: str) -> None:
        super().__init__(num_processes, 1, False, process_group_backend=collectives)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """As with DDP: callbacks know at ``on_fit_start`` whether a training goes on."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """As with DDP."""
        return True

    def lightning_module_state_dict(self) -> dict[str, object]:
        """Whole weights in main memory, on the first process; the others help to gather them."""
        assert self.lightning_module is not None
        return {name: self._for_file(x) for name, x in self.lightning_module.state_dict().items()}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's share of whole weights."""
        assert self.lightning_module is not None
        shares = self.lightning_module.state_dict()
        given = checkpoint["state_dict"]
        found = {name: share_like(x, shares.get(name)) for name, x in given.items()}
        self.lightning_module.load_state_dict(found, strict=strict)

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, object]:
        """Whole moments, in torch's own form; on the first process alone, as the weights."""
        state = optimizer.state_dict()
        whole_state = {
            number: {name: self._for_file(x) for name, x in moments.items()}
            for number, moments in state["state"].items()
        }
        return state | {"state": whole_state}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take this process's share of whole moments."""
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            numbers = [number for group in state["param_groups"] for number in group["params"]]
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            shares = {
                number: {
                    name: share_like(x, weight) if _is_of(weight, x) else x
                    for name, x in state["state"][number].items()
                }
                for number, weight in zip(numbers, weights, strict=True)
                if number in state["state"]
            }
            optimizer.load_state_dict(state | {"state": shares})

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """One file, by the first process."""
        Strategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> Any:
        """Every process maps the file, and reads its share of it."""
        return torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)

    def _for_file(self, value: Any) -> Any:
        """A whole tensor on the first process; nothing of it on the others, which write none."""
        if not isinstance(value, DTensor):
            return value
        found = value.full_tensor()
        return found.cpu() if self.is_global_zero else found.new_empty(0)


def _is_of(weight: torch.Tensor, value: Any) -> bool:
    """Whether a number of the optimizer's is one per number of a weight."""
    return isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape == weight.shape


def shard(encoder: TextEncoder, mesh: DeviceMesh) -> TextEncoder:
    """An encoder that holds this process's share of the weights, of each layer by itself and of all
    that is no layer together; the given one stays whole.

    Args:
        encoder: the same on every process.
        mesh: of one dimension.

    Raises:
        UsageError: packed execution does not compute it: then processes would not gather weights
            equally often.
    """
    encoder.disable_dropout()  # as training does; some architectures could not be packed otherwise
    reason = why_padded(encoder.backbone)
    if reason:
        raise UsageError(
            f"trainer.strategy=fsdp does not shard {type(encoder.backbone).__name__}: {reason}",
            "trainer.strategy=ddp; where memory is short: gradient_checkpointing, chunk_tokens or "
            "lora",
        )
    # parameters of its own, which share the numbers until they are sharded
    own: dict[int, Any] = {
        id(weight): nn.Parameter(weight.detach(), requires_grad=weight.requires_grad)
        for weight in encoder.parameters()
    }
    sharded = copy.deepcopy(encoder, own | {id(encoder.tokenizer): encoder.tokenizer})
    shard_layers(sharded.backbone, mesh)
    fully_shard(sharded, mesh=mesh)
    return sharded


def is_sharded(encoder: Encoder) -> bool:
    """Whether the encoder holds but a share of its weights."""
    return isinstance(encoder, FSDPModule)


def gather_into(encoder: Encoder, sharded: Encoder) -> None:
    """Write the weights of which every process has a share into a whole encoder, one by one. All
    processes take part.
    """
    with torch.no_grad():
        for target, share in zip(encoder.parameters(), sharded.parameters(), strict=True):
            target.copy_(whole(share))


def whole(value: torch.Tensor, *, in_memory: bool = False) -> torch.Tensor:
    """A tensor of which every process has a share, gathered, on the device or in main memory; any
    other is itself. All processes take part.
    """
    if not isinstance(value, DTensor):
        return value
    found = value.full_tensor()
    return found.cpu() if in_memory else found


def share_like(value: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    """This process's share of a whole tensor, shared out as the weight is; the tensor itself where
    the weight is whole too.
    """
    if not isinstance(weight, DTensor):
        return value
    found: torch.Tensor = distribute_tensor(
        value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None
    )
    return found
