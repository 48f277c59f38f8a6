"""Ascend's NPUs in Lightning, which has nothing for them: accelerator, strategies, precision.

Nothing here imports ``torch_npu``: ``leafkit.core.devices`` does, when an NPU is asked for. Tested
on a made-up device with the interface of Ascend's; no Ascend hardware has run it.

In a Trainer of one's own, on two NPUs:

    Trainer(accelerator=NpuAccelerator(), devices=2, strategy=NpuDDPStrategy(),
            plugins=[npu_precision(torch.bfloat16)])
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from leafkit.core.devices import KINDS
from leafkit.core.errors import UsageError

NPU = KINDS["npu"]
_MAX_SUMMED_BYTES = 4  # of a number


class NpuAccelerator(Accelerator):
    """Ascend's NPUs, each by its number among those that this process sees."""

    def setup_device(self, device: torch.device) -> None:
        """Compute on this one from now on.

        Raises:
            UsageError: it is no NPU.
        """
        if device.type != NPU.name:
            raise UsageError(f"{device} is no NPU", "Trainer(strategy=...) with NPUs alone")
        NPU.take(device.index or 0)

    def teardown(self) -> None:
        """Give memory that is held and not used back to the device."""
        NPU.module().empty_cache()

    def get_device_stats(self, device: Any) -> dict[str, float]:
        """Of its memory, as torch_npu counts it."""
        found: dict[str, float] = NPU.module().memory_stats(device)
        return found

    @staticmethod
    def parse_devices(devices: int | str | list[int]) -> list[int]:
        """Numbers of the devices that ``Trainer(devices=...)`` means: so many, these, or all (-1).

        Raises:
            UsageError: it says none of these.
        """
        if isinstance(devices, list):
            return devices
        try:
            wanted = [int(one) for one in str(devices).split(",")]
        except ValueError as err:
            raise UsageError(
                f"devices={devices!r} names no NPUs", "a number, a list of numbers, or -1 for all"
            ) from err
        if len(wanted) > 1:
            return wanted
        return list(range(NPU.count() if wanted == [-1] else wanted[0]))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        """The devices of these numbers."""
        return [torch.device(NPU.name, number) for number in devices]

    @staticmethod
    def auto_device_count() -> int:
        """All that this process sees."""
        return NPU.count()

    @staticmethod
    def is_available() -> bool:
        """Whether there is one, and what it needs."""
        return not NPU.why_missing()

    @staticmethod
    def name() -> str:
        """As torch calls it."""
        return NPU.name


class NpuDDPStrategy(DDPStrategy):
    """Data-parallel over NPUs; tensors in main memory go over gloo.

    Args:
        settings: of ``lightning.pytorch.strategies.DDPStrategy``.
    """

    strategy_name = "npu_ddp"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**({"process_group_backend": NPU.backend} | settings))

    def determine_ddp_device_ids(self) -> None:
        """None are named to DDP: Lightning would open a stream of CUDA's for them, and a model on
        one device needs none.
        """

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:
        """The mean or sum over processes; in 64 bits (Lightning adds up lengths of loaders) over
        main memory, for Ascend's library has that in software at best.
        """
        if isinstance(tensor, torch.Tensor) and tensor.element_size() > _MAX_SUMMED_BYTES:
            return super().reduce(tensor.cpu(), group, reduce_op).to(tensor.device)
        return super().reduce(tensor, group, reduce_op)


def npu_strategy(num_processes: int) -> NpuDDPStrategy | SingleDeviceStrategy:
    """The strategy of a launch of so many processes, each of which has taken its device."""
    return NpuDDPStrategy() if num_processes > 1 else SingleDeviceStrategy(NPU.current())


def npu_precision(precision: torch.dtype) -> Precision:
    """bfloat16 under the NPU's autocast, or float32; weights stay float32 (Lightning's own
    "bf16-mixed" would ask CUDA's autocast).
    """
    if precision == torch.bfloat16:
        return MixedPrecision("bf16-mixed", device=NPU.name)
    return Precision()
