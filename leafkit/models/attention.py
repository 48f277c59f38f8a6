"""Which tokens see which: decoders with or without their causal mask, and the probe that proves it.

transformers >= 5.4 builds a decoder's masks from ``config.is_causal``. Setting the flag of the
attention layers alone is a
trap: eager execution and padded batches stay causal. So the mode is the config's, and it is
    believed only after a probe.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from leafkit.core.errors import LeafkitError, UsageError

MODES = ("bidirectional", "causal")
_PROBE_LENGTH = 4  # inside every window of local attention
# of token 0; a causal model gives 0, or rounding noise where experts are dealt their tokens
_RELATIVE_CHANGE = 1e-5


def attention_mode(backbone: PreTrainedModel) -> str:
    """What the config says: bidirectional or causal for a decoder, "" for an encoder, which has no
    choice.
    """
    config = backbone.config
    kind = config.model_type
    is_decoder = (
        kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    if not is_decoder and not getattr(config, "is_decoder", False):
        return ""
    return (
        "bidirectional"
        if _is_built_bidirectional(backbone) or not getattr(config, "is_causal", True)
        else "causal"
    )


def set_attention(backbone: PreTrainedModel, mode: str) -> None:
    """Remove a decoder's causal mask or restore it, in place, and check that the computation
    follows.

    Layers with a sliding window keep it: w tokens to the left become w tokens to either side.

    Args:
        backbone: of any architecture; an encoder takes ``bidirectional``, which it is already.
        mode: bidirectional or causal.

    Raises:
        UsageError: no such mode, or the architecture cannot be given it.
        LeafkitError: the architecture does not honour its config.
    """
    name = type(backbone).__name__
    if mode not in MODES:
        raise UsageError(f"attention {mode!r} is not one of {', '.join(MODES)}")
    before = attention_mode(backbone)
    if before and not _is_built_bidirectional(backbone):
        backbone.config.is_causal = mode == "causal"
    elif mode == "causal":
        raise UsageError(
            f"attention=causal: {name} was built to be bidirectional",
            "leave attention empty, or take a decoder",
        )
    elif not all(sees_later_tokens(backbone, is_padded) for is_padded in (False, True)):
        raise LeafkitError(
            f"{name} is causal and has no switch for it",
            "take an architecture that transformers knows",
        )
    try:
        check_attention(backbone)
    except LeafkitError:
        if before:
            backbone.config.is_causal = before == "causal"
        raise


def pin_attention(backbone: PreTrainedModel) -> None:
    """Write a decoder's mode into its config, so that no reader has to know a default."""
    if attention_mode(backbone) and not _is_built_bidirectional(backbone):
        backbone.config.is_causal = attention_mode(backbone) == "causal"


def is_made_bidirectional(backbone: PreTrainedModel) -> bool:
    """Whether a decoder sees later tokens by ``config.is_causal`` alone, which transformers before
    5.4, and servers with code of their own, ignore without a word.
    """
    return attention_mode(backbone) == "bidirectional" and not _is_built_bidirectional(backbone)


def check_attention(backbone: PreTrainedModel) -> None:
    """Four passes over four tokens, with and without padding: does the computation do what the
    config says?

    Raises:
        LeafkitError: it does not.
    """
    mode, name = attention_mode(backbone), type(backbone).__name__
    if not mode:
        if getattr(backbone.config, "is_causal", None):
            raise LeafkitError(
                f"{name} is an encoder and its config says is_causal=true: it would be causal in "
                f"some batches only",
                "remove is_causal from config.json",
            )
        return
    for is_padded in (False, True):
        if sees_later_tokens(backbone, is_padded) != (mode == "bidirectional"):
            batches = "padded" if is_padded else "unpadded"
            raise LeafkitError(
                f"{name} ({backbone.config.model_type}) does not compute {mode} attention in "
                f"{batches} batches"
                f" with attn_implementation={backbone.config._attn_implementation}, although its "
                f"config says so",
                "choose the other attention, or another architecture: Qwen2, Qwen3, Mistral, "
                "Llama and Gemma3 follow it",
            )


@torch.no_grad()
def sees_later_tokens(backbone: PreTrainedModel, is_padded: bool) -> bool:
    """Whether the hidden state of token 0 changes with the last token."""
    vocabulary = backbone.config.vocab_size
    first = torch.linspace(0, vocabulary - 1, _PROBE_LENGTH + 3, device=backbone.device).long()[
        1:-2
    ]
    last = torch.tensor([vocabulary // 3], device=backbone.device)
    padding = first[:2] if is_padded else first[:0]
    mask_BT = (
        torch.tensor([[1] * _PROBE_LENGTH + [0] * len(padding)], device=backbone.device)
        if is_padded
        else None
    )
    was_training = backbone.training
    backbone.eval()
    states = [
        backbone(input_ids=torch.cat([ids, padding])[None], attention_mask=mask_BT)
        .last_hidden_state[0, 0]
        .float()
        for ids in (first, torch.cat([first[:-1], last]))
    ]
    backbone.train(was_training)
    return bool((states[0] - states[1]).abs().max() > _RELATIVE_CHANGE * states[0].abs().max())


def _is_built_bidirectional(backbone: PreTrainedModel) -> bool:
    """Gemma's own field, which halves its windows when the config is built: EmbeddingGemma is such
    a model.
    """
    return getattr(backbone.config, "use_bidirectional_attention", None) in (True, "all")
