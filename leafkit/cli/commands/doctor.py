"""``leafkit doctor``: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from leafkit.cli.plain_words import refuse_words
from leafkit.config.recipe import Recipe
from leafkit.core.builtin_models.table import BUILTIN_MODELS
from leafkit.core.console import console
from leafkit.core.devices import KINDS
from leafkit.core.system import cpu_name, memory_gib
from leafkit.core.version import __version__, git_commit

# packages that are always needed, then those of an extra, with what it is for
_NEEDED = "torch transformers lightning datasets numpy omegaconf ir-measures bm25s rich".split()
_WANTED_FOR = {
    "onnx": ("onnx", "leafkit export"),
    "onnxruntime": ("onnx", "leafkit export, and a faster leafkit search"),
    "openvino": ("openvino", "leafkit export to=openvino"),
    "starlette": ("serve", "leafkit serve"),
    "uvicorn": ("serve", "leafkit serve"),
    "orjson": ("serve", "leafkit serve"),
    "openai": ("synth", "leafkit synth and endpoint: models"),
    "sentence-transformers": (
        "sentence-transformers",
        "teachers that are more than stock modules, and to compare",
    ),
    "peft": ("lora", "lora.rank, and teachers with an adapter"),
    "mteb": ("bench", "mteb: tasks"),
    "tensorboard": ("tensorboard", "trainer.loggers=[tensorboard]"),
    "wandb": ("wandb", "trainer.loggers=[wandb]"),
    "ray": ("ray", "embed.engine=ray"),
    "qdrant-client": (
        "qdrant",
        "leafkit embed to=qdrant: and leafkit rescue qdrant:URL/COLLECTION",
    ),
    "psutil": ("monitor", "trainer.callbacks=[device_stats]"),
    "langchain-core": ("langchain", "pair.langchain()"),
    "llama-index-core": ("llama-index", "pair.llama_index()"),
    "haystack-ai": ("haystack", "pair.haystack()"),
    "psycopg": ("pgvector", "leafkit embed to=pgvector:"),
    "pgvector": ("pgvector", "leafkit embed to=pgvector:"),
    "lancedb": ("lance", "leafkit embed to=lance:"),
    "opensearch-py": ("opensearch", "leafkit embed to=opensearch:"),
}
# CANN's set_env.sh sets them, and usually lies there
_CANN_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
_CANN_SCRIPTS = (
    Path("/usr/local/Ascend/ascend-toolkit/set_env.sh"),
    Path("/usr/local/Ascend/cann/set_env.sh"),
)
_DEVICE_FILES = Path("/dev")
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = {"1", "on", "yes", "true"}  # as huggingface_hub reads them

Finding = tuple[str, str, str]  # what, its state, and a hint or ""


def run(words: Sequence[str]) -> int:
    """Print one line for each thing that leafkit can use."""
    refuse_words("doctor", words)
    if "torch" not in sys.modules:
        # an extension that does not load is to be told of below; it would break `import torch`
        os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
    for what, state, hint in examine():
        console.print(f"{what:22} {state}" + (f"\n{'':22} -> {hint}" if hint else ""), markup=False)
    return 0


def examine() -> list[Finding]:
    """What this machine has, one finding for each thing."""
    commit = git_commit()
    return [
        ("leafkit", f"{__version__}{f', commit {commit}' if commit else ''}", ""),
        (
            "machine",
            f"{cpu_name()}, {os.cpu_count()} cores, {memory_gib():.0f} GiB, Python "
            f"{platform.python_version()}",
            "",
        ),
        ("disk", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free here", ""),
        *_folders(),
        _bf16(),
        *_accelerators(),
        _automatic(),
        _faiss(),
        *_builtin_models(),
        _hub(),
        *_packages(),
    ]


def _folders() -> list[Finding]:
    from leafkit.models.builtin.assemble import CACHE_VARIABLE, cache_folder

    return [
        _writable("checkpoints", Path(Recipe().checkpoints).absolute(), "checkpoints=DIR"),
        _writable("cache", cache_folder(), f"{CACHE_VARIABLE}=DIR in the environment"),
    ]


def _writable(what: str, folder: Path, elsewhere: str) -> Finding:
    place = next(p for p in (folder, *folder.parents) if p.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return (what, f"{folder}{'' if place == folder else ' (will be made)'}", "")
    return (what, f"{folder} cannot be written", f"{elsewhere} chooses another place")


def _automatic() -> Finding:
    from leafkit.models.precision import choose_device, choose_precision

    device = choose_device("auto")
    dtype = str(choose_precision("auto", device)).removeprefix("torch.")
    return ("chosen by auto", f"device={device.type}, and {dtype} for precision=auto", "")


def _builtin_models() -> list[Finding]:
    from leafkit.models.builtin.find import describe_builtin

    rows = []
    for reference, model in BUILTIN_MODELS.items():
        is_there, where = describe_builtin(reference)
        state = where if is_there else f"{where}, the hub will be asked"
        rows.append((reference, f"{model.title}, {state}", "" if is_there else model.install))
    return rows


def _hub() -> Finding:
    offline = [name for name in _OFFLINE if os.environ.get(name, "").lower() in _TRUE]
    if not offline:
        return ("hub", "is asked for models and data that are not here", "")
    return ("hub", f"never asked: {offline[0]} is set", "")


def _packages() -> list[Finding]:
    rows = []
    for name in (*_NEEDED, *_WANTED_FOR):
        if _is_installed(name):
            rows.append((name, metadata.version(name), ""))
        elif name in _WANTED_FOR:
            extra, use = _WANTED_FOR[name]
            rows.append((name, f"not installed: for {use}", f'pip install "leafkit[{extra}]"'))
        else:
            rows.append((name, "not installed", f"pip install {name}"))
    return rows


def _bf16() -> Finding:
    from leafkit.models.precision import bf16_speedup, has_bf16_instructions, use_bf16_on_cpu

    ratio = bf16_speedup()
    verdict = "used" if use_bf16_on_cpu() else "not used: float32 is as fast"
    kind = "has" if has_bf16_instructions() else "lacks"
    return (
        "bf16 on the CPU",
        f"the processor {kind} bf16 instructions, {ratio:.1f} times float32's matrix speed: "
        f"{verdict}",
        "",
    )


def _accelerators() -> list[Finding]:
    return [_gpu(), *_npu()]


def _gpu() -> Finding:
    import torch

    if not KINDS["cuda"].why_missing():
        names = (torch.cuda.get_device_name(i) for i in range(KINDS["cuda"].count()))
        return ("GPU", ", ".join(names), "")
    if torch.version.cuda:
        return ("GPU", "torch has CUDA but sees no GPU", "check the driver with nvidia-smi")
    return (
        "GPU",
        f"torch {torch.__version__} is a build without CUDA",
        'pip install "leafkit[gpu]" on a machine with one',
    )


def _npu() -> list[Finding]:
    """What an Ascend machine needs, one below the other: the driver, CANN, torch_npu."""
    kind = KINDS["npu"]
    num_files = len(list(_DEVICE_FILES.glob(kind.device_files)))
    if not kind.is_installed():
        state = f", and the driver shows {num_files} device(s)" if num_files else ""
        hint = (
            f'after CANN: pip install "leafkit[{kind.extra}]"'
            if num_files
            else "only for Ascend machines: it needs CANN, without which it breaks `import torch`"
        )
        return [("NPU", f"{kind.package} is not installed{state}", hint)]
    named = next((name for name in _CANN_VARIABLES if os.environ.get(name)), "")
    cann = (
        ("CANN", f"{os.environ[named]} ({named})", "")
        if named
        else ("CANN", f"not set up: {_CANN_VARIABLES[0]} is not set", _find_cann())
    )
    reason = kind.why_missing()
    if not reason:
        state = f"{kind.count()} device(s), {kind.model_name()}; tested on a made-up device only"
        return [("NPU", state, ""), cann]
    if not named:
        hint = f"set CANN up; where there is none: pip uninstall {kind.package}"
    elif "imported" in reason:
        hint = f"{kind.package} must be of torch's own minor version, and of CANN's"
    elif not num_files:
        hint = "the driver shows no device in /dev: check it with npu-smi info"
    else:
        hint = f"npu-smi info lists what the driver sees; {kind.visible} may hide some"
    return [("NPU", reason, hint), cann]


def _find_cann() -> str:
    scripts = [path for path in _CANN_SCRIPTS if path.is_file()]
    if scripts:
        return f"source {scripts[0]}"
    return f"install Ascend's CANN, then source its set_env.sh (usually {_CANN_SCRIPTS[0]})"


def _faiss() -> Finding:
    installed = [name for name in ("faiss-cpu", "faiss-gpu") if _is_installed(name)]
    if not installed:
        return ("faiss", "not installed", 'pip install "leafkit[cpu]" or "leafkit[gpu]"')
    if len(installed) > 1:
        return (
            "faiss",
            "faiss-cpu and faiss-gpu are both installed and overwrite each other",
            "pip uninstall one of them",
        )
    return ("faiss", f"{installed[0]} {metadata.version(installed[0])}", "")


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
