"""The kinds of devices that leafkit computes on: the one place that knows what each can do.

Torch is imported when a device is asked for something, not before: what is written here is read
by commands that need no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_NONE_HERE = "there is none on this machine"


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """What torch, Lightning and the launch need to be told of a kind of device.

    Attributes:
        name: as torch and the recipe's ``device`` call it.
        title: as people call one of them.
        lightning: Lightning's name of its accelerator; "" where it has none, and leafkit brings
            its own (``leafkit.train.devices``).
        collectives: torch's name of the backend that sums gradients on such devices.
        package: that brings the kind to torch when it is imported; "" for torch's own kinds.
        extra: of leafkit's, that installs the package.
        visible: environment variable that hides some of a machine's devices.
        device_files: pattern of their names in /dev, on Linux.
        is_host: it is the processor itself: tensors lie in main memory, and what computes on them
            are threads of this process.
        has_fused_adamw: torch's AdamW has one kernel for all of a step.
        prefers_bf16: bfloat16 is the faster arithmetic wherever the device has it.
        runs_ahead: the processor queues work and copies without waiting for the device, so that few
            large kernels are better than many small ones, and torch is known to have what that
            takes (``send``, ``fetch``).
        tokens_at_once: that encoding gives the device together: a large device is idle on few,
            the processor is no faster on more.
    """

    name: str
    title: str
    lightning: str = ""
    collectives: str = "gloo"
    package: str = ""
    extra: str = ""
    visible: str = ""
    device_files: str = ""
    is_host: bool = False
    has_fused_adamw: bool = False
    prefers_bf16: bool = False
    runs_ahead: bool = False
    tokens_at_once: int = 4096

    @property
    def backend(self) -> str:
        """Of a process group: tensors in main memory have collectives of their own."""
        return f"cpu:gloo,{self.name}:{self.collectives}" if self.collectives != "gloo" else "gloo"

    def module(self) -> Any:
        """Torch's module for the kind, such as ``torch.cuda``.

        Raises:
            AttributeError: the package that brings it has not been imported.
        """
        import torch

        return getattr(torch, self.name)

    def is_installed(self) -> bool:
        """Whether this Python has what the kind needs. Imports nothing."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def why_missing(self) -> str:
        """Why no such device can be used here, in a few words; "" where one can. The package that
        brings the kind is imported, where it is installed.
        """
        if not self.is_installed():
            return f"the package {self.package} is not installed"
        try:
            if self.package:
                importlib.import_module(self.package)
        except Exception as err:  # whatever its libraries make of a machine without their driver
            return f"{self.package} cannot be imported: {_first_line(err)}"
        try:
            return "" if self.module().is_available() else _NONE_HERE
        except Exception as err:
            return f"torch does not reach it: {_first_line(err)}"

    def count(self) -> int:
        """Devices of the kind that this process sees."""
        return int(self.module().device_count())

    def take(self, number: int) -> None:
        """Compute on the device of this number from now on, wherever none is named; of no account
        where there is but one.
        """
        if self.visible:
            self.module().set_device(number)

    def current(self) -> torch.device:
        """The device that this process has taken, with its number where there are several."""
        import torch

        if not self.visible:
            return torch.device(self.name)
        return torch.device(self.name, self.module().current_device())

    def model_name(self) -> str:
        """Of the device at work, as its driver tells; "" of the processor, and where none does."""
        return str(self.module().get_device_name()) if self.visible else ""

    def has_bf16(self) -> bool:
        """Whether bfloat16 can be computed in."""
        return not self.visible or bool(self.module().is_bf16_supported())

    def wait(self) -> None:
        """Until the device has done all that it was told; nothing where it is not run ahead of."""
        if self.runs_ahead:
            self.module().synchronize()

    def random_state(self) -> torch.Tensor | None:
        """Of the generator of the device at work; None of the processor, whose generator is
        torch's own.
        """
        state: torch.Tensor | None = None if self.is_host else self.module().get_rng_state()
        return state

    def set_random_state(self, state: torch.Tensor) -> None:
        """Go on from a state that ``random_state`` has given."""
        self.module().set_rng_state(state)


# in the order in which device=auto takes them
KINDS = {
    kind.name: kind
    for kind in (
        DeviceKind(
            "cuda",
            "GPU",
            lightning="gpu",
            collectives="nccl",
            visible="CUDA_VISIBLE_DEVICES",
            device_files="nvidia[0-9]*",
            has_fused_adamw=True,
            prefers_bf16=True,
            runs_ahead=True,
            # a 23M student: some 0.5 TFLOPs, against thousands of operators to launch
            tokens_at_once=32_768,
        ),
        DeviceKind(
            "npu",
            "NPU",
            collectives="hccl",
            package="torch_npu",
            extra="npu",
            visible="ASCEND_RT_VISIBLE_DEVICES",
            device_files="davinci[0-9]*",
            prefers_bf16=True,
        ),
        DeviceKind("mps", "Apple GPU", lightning="mps"),
        DeviceKind("cpu", "CPU", lightning="cpu", is_host=True, has_fused_adamw=True),
    )
}


def kind_of(device: torch.device) -> DeviceKind:
    """The kind of a device; of one that leafkit does not know nothing is taken for granted."""
    return KINDS.get(device.type) or DeviceKind(device.type, device.type)


def send(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of main memory on a device. Where that runs ahead, through memory that the device
    reads by itself: a plain copy waits until the device has done all that it was told before.
    """
    if not kind_of(device).runs_ahead or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def fetch(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A tensor's way into main memory: call the result to have it there. On a device that runs
    ahead the copy is queued now, and the call waits for what was queued before it alone.
    """
    kind = kind_of(tensor.device)
    if not kind.runs_ahead:
        return tensor.cpu
    copied, arrived = tensor.to("cpu", non_blocking=True), kind.module().Event()
    arrived.record()

    def wait() -> torch.Tensor:
        arrived.synchronize()
        return copied

    return wait


def has_flash_attention(device: torch.device) -> bool:
    """Whether torch's flash attention for texts of any lengths runs there: NVIDIA's devices from
    Ampere on.
    """
    import torch

    return (
        device.type == "cuda"
        and torch.version.hip is None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


def _first_line(err: Exception) -> str:
    lines = str(err).splitlines()
    return lines[0][:200] if lines else type(err).__name__
