"""Builds the fake device by torch's own extension builder; run in a process of its own, for the
builder loads what it has built.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = "FAKE_NPU_LIBRARY"  # environment variable: of a library that was built earlier
_NAME = "fake_npu"


def why_not() -> str:
    """What the build needs and this machine lacks; "" where it lacks nothing."""
    compiler = os.environ.get("CXX", "c++")
    lacking = [tool for tool in (compiler, "ninja") if shutil.which(tool) is None]
    return f"the fake NPU cannot be built here: no {' and no '.join(lacking)}" if lacking else ""


def build(folder: Path) -> Path:
    """The library, built once in a folder; processes that ask at the same time wait for the first.

    Raises:
        RuntimeError: the compiler refuses it; its words.
    """
    given = os.environ.get(LIBRARY, "")
    if given:
        return Path(given)
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-4000:] + done.stderr[-4000:])
    return folder / f"{_NAME}.so"


if __name__ == "__main__":
    from torch.utils.cpp_extension import load

    load(
        _NAME,
        [str(HERE / "fake_npu.cpp")],
        extra_cflags=["-O0", "-g0"],
        build_directory=sys.argv[1],
        is_python_module=False,
    )
