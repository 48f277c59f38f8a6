"""Weight averages: a trained model with its start, or any number of models that share an
architecture.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tokenization import PROBE


def soup(encoders: Sequence[TextEncoder], weights: Sequence[float]) -> TextEncoder:
    """The weighted average of models, summed in float32, in the first one's dtype and with its
    spec.

    Args:
        encoders: models of one architecture, tokenizer, pooling, attention and prompts; they stay
            as they are.
        weights: share of each; not negative, sum 1.

    Raises:
        UsageError: the weights are not shares.
        LeafkitError: the models cannot be averaged; the message names what differs.
    """
    if not encoders or len(weights) != len(encoders):
        raise UsageError(
            f"{len(weights)} soup weights for {len(encoders)} models", "give one weight per member"
        )
    if not all(math.isfinite(w) and w >= 0 for w in weights) or abs(sum(weights) - 1) > 1e-6:
        raise UsageError(
            f"soup weights {list(weights)} are not shares that sum to 1",
            "leave them empty to have them chosen",
        )
    for encoder in encoders[1:]:
        _check_same_use(encoders[0], encoder)
    new = copy.deepcopy(encoders[0])
    new.fingerprint = ""
    _average(new, encoders, weights)
    return new


def softmax_weights(losses: Sequence[float], temperature: float = 5.0) -> list[float]:
    """softmax(-loss / T): the better a model on held-out rows, the larger its share (LM-Cocktail,
    arXiv 2311.13534).

    Raises:
        UsageError: the temperature is not above 0.
        LeafkitError: there are no losses, or one is not finite.
    """
    if not temperature > 0:
        raise UsageError(f"soup.temperature={temperature} is not above 0")
    if not losses or not all(math.isfinite(loss) for loss in losses):
        raise LeafkitError(
            f"held-out losses {list(losses)} give no soup weights",
            "set soup.weights, or look at the members",
        )
    best = min(losses)
    shares = [math.exp((best - loss) / temperature) for loss in losses]
    return [share / sum(shares) for share in shares]


def average_into(encoder: TextEncoder, start: TextEncoder, share: float) -> None:
    """Replace the weights by ``share`` of themselves plus the rest of the start's, in float32.

    A tuned model averaged with the one it came from keeps most of what it learnt and of what it
    knew (WiSE-FT, arXiv 2109.01903; LM-Cocktail, arXiv 2311.13534).

    Raises:
        LeafkitError: the two have not the same weights by name and shape.
    """
    _average(encoder, (encoder, start), (share, 1 - share))


def _average(
    target: TextEncoder, encoders: Sequence[TextEncoder], weights: Sequence[float]
) -> None:
    """Write the average into ``target``, which may be one of the encoders: each tensor is read
    before it is written.
    """
    states = [encoder.state_dict() for encoder in encoders]
    first = states[0]
    for state in states[1:]:
        unlike = sorted(
            k
            for k in first.keys() | state.keys()
            if k not in first or k not in state or first[k].shape != state[k].shape
        )
        if unlike:
            raise LeafkitError(
                f"models of different shape cannot be averaged: {', '.join(unlike[:3])}",
                "average models of one architecture",
            )
    with torch.no_grad():
        for name, value in target.state_dict().items():
            if value.is_floating_point():
                total = weights[0] * first[name].to(value.device).float()
                for weight, state in zip(weights[1:], states[1:], strict=True):
                    total += weight * state[name].to(value.device).float()
                value.copy_(total)


def _check_same_use(first: TextEncoder, other: TextEncoder) -> None:
    """Equal weights' names are not enough: averaged models must have been trained to read and pool
    texts alike.
    """
    uses, other_uses = _uses(first), _uses(other)
    for key, value in uses.items():
        if value != other_uses[key]:
            is_short = key not in ("vocabulary", "token tables")
            told = f" ({value!r} and {other_uses[key]!r})" if is_short else ""
            raise LeafkitError(
                f"models with different {key} cannot be averaged{told}",
                "average checkpoints of one model, trained alike",
            )


def _uses(encoder: TextEncoder) -> Mapping[str, object]:
    spec, tokenizer = encoder.spec, encoder.tokenizer
    table, layer = encoder.token_table, encoder.token_layer
    return {
        "architecture": encoder.backbone.config.model_type,
        "pooling": spec.pooling,
        "attention": spec.attention,
        "normalization": spec.normalized,
        "prompts": {role: text for role, text in spec.prompts.items() if text},
        "templates": spec.templates,
        "vocabulary": tokenizer.get_vocab(),
        "special tokens": tokenizer.special_tokens_map,
        "token ids": tokenizer(PROBE)["input_ids"],
        "token tables": None if table is None else table.token_ids.tolist(),
        "units of a layer over tokens": None if layer is None else layer.out_features,
    }
