"""Stands for Ascend's package: imported, it makes ``torch.npu`` out of the library that
FAKE_NPU_LIBRARY names, and a process group "hccl" that is gloo underneath.

What the real ones do and torch's own devices do not is done here too: tensors are pickled as calls
of a function of the package, there is no exchange of all with all, and sums are of 32 bits at most.
FAKE_NPU_CALLS names a folder that gets what was asked of the device, a file per process.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import types
from pathlib import Path

import torch
import torch.distributed as dist

__version__ = torch.__version__.split("+")[0]
_library = ctypes.CDLL(os.environ["FAKE_NPU_LIBRARY"])
_calls: list[str] = []


def _write_calls() -> None:
    name = f"{os.environ.get('RANK', '0')}-{os.getpid()}.txt"
    (Path(os.environ["FAKE_NPU_CALLS"]) / name).write_text("\n".join(_calls))


class _Npu(types.ModuleType):
    """``torch.npu``, as far as torch, Lightning and leafkit ask for it."""

    def __init__(self) -> None:
        super().__init__("torch.npu")
        self._generator = torch.Generator().manual_seed(0)

    def is_available(self) -> bool:
        return self.device_count() > 0

    def is_initialized(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def device_count(self) -> int:
        return _library.fake_npu_device_count()

    def current_device(self) -> int:
        return _library.fake_npu_current_device()

    def set_device(self, device) -> None:
        index = device if isinstance(device, int) else torch.device(device).index or 0
        if not 0 <= index < self.device_count():
            raise RuntimeError(f"invalid device ordinal {index}")
        _calls.append(f"set_device {index}")
        _library.fake_npu_set_device(index)

    def get_device_name(self, device=None) -> str:
        return "Fake910"

    def is_bf16_supported(self) -> bool:
        return True

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]

    def synchronize(self, device=None) -> None:
        pass

    def empty_cache(self) -> None:
        _calls.append("empty_cache")

    def memory_stats(self, device=None) -> dict[str, int]:
        return {"allocated_bytes.all.current": 0}

    def manual_seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        _calls.append(f"manual_seed_all {seed}")
        self._generator.manual_seed(seed)

    def get_rng_state(self, device="npu") -> torch.Tensor:
        return self._generator.get_state()

    def set_rng_state(self, state: torch.Tensor, device="npu") -> None:
        _calls.append("set_rng_state")
        self._generator.set_state(state)

    def draw(self) -> float:
        """A number of the device's generator."""
        return float(torch.rand(1, generator=self._generator))


class _Work(dist._Work):
    """Finishes when it is waited for."""

    def __init__(self, finish, result) -> None:
        super().__init__()
        self._finish, self._result, self._is_done = finish, result, False
        self._future = torch.futures.Future()

    def wait(self, timeout=None) -> bool:
        if not self._is_done:
            self._finish()
            self._is_done = True
            self._future.set_result(self._result)
        return True

    def is_completed(self) -> bool:
        return self._is_done

    def get_future(self) -> torch.futures.Future:
        self.wait()
        return self._future


class _Hccl(dist.ProcessGroup):
    """Collectives on NPUs through gloo. A process group in Python replaces the whole group, so
    tensors in main memory go this way too.
    """

    def __init__(self, store, rank: int, size: int, timeout) -> None:
        super().__init__(rank, size)
        self._rank, self._size = rank, size
        self._gloo = dist.ProcessGroupGloo(store, rank, size, timeout)

    def getBackendName(self) -> str:
        return "hccl"

    def getRank(self) -> int:
        return self._rank

    def getSize(self) -> int:
        return self._size

    def _run(self, name: str, tensors, call) -> _Work:
        _calls.append(f"{name} {tensors[0].device.type}")
        host = [tensor.cpu() for tensor in tensors]
        work = call(host)

        def finish() -> None:
            work.wait()
            for tensor, result in zip(tensors, host, strict=True):
                tensor.copy_(result)

        return _Work(finish, tensors)

    def allreduce(self, tensors, opts=None) -> _Work:
        if tensors[0].device.type == "npu" and tensors[0].element_size() > 4:
            raise RuntimeError(f"hccl: no sum of {tensors[0].dtype}")
        options = () if opts is None else (opts,)
        return self._run("allreduce", tensors, lambda host: self._gloo.allreduce(host, *options))

    def broadcast(self, tensors, opts) -> _Work:
        return self._run("broadcast", tensors, lambda host: self._gloo.broadcast(host, opts))

    def allgather(self, outputs, inputs, opts=None) -> _Work:
        _calls.append(f"allgather {inputs[0].device.type}")
        rows = [[one.cpu() for one in row] for row in outputs]
        work = self._gloo.allgather(rows, [one.cpu() for one in inputs])

        def finish() -> None:
            work.wait()
            for row, found in zip(outputs, rows, strict=True):
                for one, result in zip(row, found, strict=True):
                    one.copy_(result)

        return _Work(finish, outputs)

    def _allgather_base(self, output, one, opts=None) -> _Work:
        parts = [torch.empty_like(one) for _ in range(self._size)]
        work = self.allgather([parts], [one], opts)

        def finish() -> None:
            work.wait()
            output.copy_(torch.cat([part.reshape(-1) for part in parts]).view(output.shape))

        return _Work(finish, [output])

    def barrier(self, opts=None) -> _Work:
        return _Work(self._gloo.barrier().wait, [])


def _rebuild_npu_tensor(values: torch.Tensor, requires_grad: bool) -> torch.Tensor:
    return values.to("npu").requires_grad_(requires_grad)


_reduce_ex = torch.Tensor.__reduce_ex__


def _reduce_npu_tensor(self, protocol):
    if self.device.type == "npu":
        return _rebuild_npu_tensor, (self.detach().cpu(), self.requires_grad)
    return _reduce_ex(self, protocol)


def _refuse(name: str):
    def call(*args, **kwargs):
        raise NotImplementedError(f"torch_npu.{name} of the fake NPU")

    return call


# what transformers asks of the package, where it sees one
npu_fusion_attention = _refuse("npu_fusion_attention")
npu_rms_norm = _refuse("npu_rms_norm")
npu_rotary_mul = _refuse("npu_rotary_mul")
npu_swiglu = _refuse("npu_swiglu")

torch.utils.rename_privateuse1_backend("npu")
_library.fake_npu_register_hooks()
torch._register_device_module("npu", _Npu())
torch.utils.generate_methods_for_privateuse1_backend(
    for_tensor=True, for_module=True, for_storage=True
)
torch.Tensor.__reduce_ex__ = _reduce_npu_tensor
dist.Backend.register_backend("hccl", _Hccl, devices=["npu"])
if "FAKE_NPU_CALLS" in os.environ:
    atexit.register(_write_calls)
