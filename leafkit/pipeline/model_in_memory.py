"""A model that is in memory already, as one of a pair."""

from __future__ import annotations

import hashlib
from typing import cast

import torch

from leafkit.core.errors import UsageError
from leafkit.embedders.distinct import probe_model
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.protocol import Embedder
from leafkit.models.encoder_protocol import Encoder
from leafkit.models.static_encoder import StaticEncoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.model_handle import ModelHandle

# what is asked of an embedder of somebody else's
_OF_AN_EMBEDDER = (
    "dim",
    "embed",
    "encoder",
    "fingerprint",
    "mrl_dims",
    "prompt",
    "require",
    "space",
    "space_id",
)


def as_handle(
    model: ModelHandle | Embedder | Encoder,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> ModelHandle:
    """A model that is in memory: an encoder, or anything that is an ``Embedder``.

    Args:
        model: as given by ``leafkit.load_model`` or ``leafkit.train_teacher``, or of one's own.
        device: where an encoder computes.
        precision: of its arithmetic.

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(model, ModelHandle):
        return model
    if isinstance(model, TextEncoder | StaticEncoder):
        if not model.fingerprint:
            model.fingerprint = identify_weights(model)
        local = make_embedder(model, device, precision)
        probe_model(local, f"the given {type(model).__name__}")
        return ModelHandle(local, "given", "")
    missing = [name for name in _OF_AN_EMBEDDER if not hasattr(model, name)]
    if missing:
        raise UsageError(
            f"a {type(model).__name__} gives no vectors: it has no {', '.join(missing)}",
            "give a reference such as 'model:FOLDER', what leafkit.load_model gives, or an object "
            "with the attributes of leafkit.embedders.protocol.Embedder",
        )
    embedder = cast(Embedder, model)
    encoder = embedder.encoder
    if encoder is not None and not encoder.fingerprint:
        encoder.fingerprint = identify_weights(encoder)
    return ModelHandle(embedder, "given", "")


def identify_weights(encoder: Encoder) -> str:
    """A fingerprint for an encoder that is on no disk: of its weights and of what shapes its
    vectors beside them.
    """
    digest = hashlib.sha256(repr(encoder.spec).encode())
    weights: list[torch.Tensor] = list(encoder.parameters())
    if isinstance(encoder, TextEncoder) and encoder.token_table is not None:
        weights.append(encoder.token_table.token_ids)  # whose rows they are
    for weight in weights:
        array = weight.detach().float().cpu().contiguous().numpy()
        digest.update(repr(array.shape).encode())
        digest.update(array.data)
    return digest.hexdigest()[:16]
