"""From a model folder to what gives its vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.embedders.black_box import BlackBoxEmbedder
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.protocol import Embedder
from leafkit.models.encoder_protocol import read_model
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.given_prompts import give_prompts
from leafkit.models.text_encoder import TextEncoder


def open_folder(
    folder: Path,
    *,
    device: torch.device,
    precision: torch.dtype,
    prompts: Mapping[str, str],
    what: str,
    trust_remote_code: bool = False,
) -> Embedder:
    """A model that is to give vectors: where it is no encoder of ours, read as a whole.

    Args:
        folder: of the model.
        device: where to compute.
        precision: of a transformer's backbone.
        prompts: by role, given by the user.
        what: names the model.
        trust_remote_code: run the code that is in the folder.

    Raises:
        LeafkitError: it is damaged, or nothing here can compute it.
    """
    is_own = (folder / MODEL_SPACE_FILE).is_file()
    try:
        encoder = read_model(folder, trust_remote_code=trust_remote_code)
    except NotStock as reason:
        if is_own:  # and changed since
            raise
        return BlackBoxEmbedder(
            folder, reason, device=device, prompts=prompts, trust_remote_code=trust_remote_code
        )
    if isinstance(encoder, TextEncoder):  # a table has no prompt
        encoder = give_prompts(encoder, prompts, what, is_own=is_own)
    return make_embedder(encoder, device, precision)
