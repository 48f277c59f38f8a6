"""Folders that hold a low-rank adapter (peft) and name the model that it changes."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.models.builtin.hub import download
from leafkit.models.folder import ADAPTER_FILE, adapter_base, read_object


def base_folder(root: Path) -> Path:
    """Folder of the model that an adapter changes: on disk, or of the hub at a pinned revision.

    Raises:
        LeafkitError: it is not there, or its revision is not pinned.
    """
    local = adapter_base(root)
    if local is not None:
        return local
    config = read_object(root / ADAPTER_FILE)
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(name, str) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        raise LeafkitError(
            f"{root / ADAPTER_FILE}: base_model_name_or_path {name!r} is no folder and no hub id",
            "let it name the folder of the model that the adapter changes, or merge the adapter",
        )
    if not re.fullmatch(r"[0-9a-f]{40}", str(revision)):
        raise LeafkitError(
            f"{root / ADAPTER_FILE}: the adapter changes {name}, whose revision is "
            f"{revision!r}: unpinned weights could change",
            'set "revision" there to a 40-hex commit, let base_model_name_or_path name a folder, '
            "or merge the adapter",
        )
    return download(name, str(revision))


def merge_adapter(backbone: PreTrainedModel, root: Path) -> PreTrainedModel:
    """The backbone with the adapter added to its weights.

    Raises:
        MissingExtra: peft is not installed.
        LeafkitError: the adapter is for another model, or damaged.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("peft", "lora", f"{root}: a low-rank adapter")
    import peft

    config = peft.PeftConfig.from_pretrained(str(root))
    config.inference_mode = True
    # what reads texts alone has no head, whatever the adapter was trained under
    config.task_type = None
    config.modules_to_save = getattr(config, "modules_to_save", None)
    model = peft.get_peft_model(backbone, config)
    loading: Any = peft.set_peft_model_state_dict(
        model, peft.load_peft_weights(str(root), device="cpu")
    )
    lacking = [key for key in loading.missing_keys if "lora_" in key]
    for what, keys in (("does not know", loading.unexpected_keys), ("misses", lacking)):
        if keys:
            raise LeafkitError(
                f"{root}: the adapter's weights are for another model: this one {what} "
                f"{sorted(keys)[0]}",
                "check base_model_name_or_path, or merge the adapter",
            )
    merged: PreTrainedModel = model.merge_and_unload()
    return merged
