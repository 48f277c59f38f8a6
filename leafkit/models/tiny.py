"""Tiny random weights of any architecture: a dry run of a recipe whose models are too big, or not
there.
"""

from __future__ import annotations

import copy
import difflib
import tempfile
import zlib
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from leafkit.core.errors import LeafkitError, UsageError
from leafkit.models.configure import configure
from leafkit.models.pooling import pooler_free
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tokenization import byte_tokenizer, comes_back_equal

_LAYERS, _HEADS = 2, 4


def tiny_encoder(
    architecture: str,
    tokenizer: PreTrainedTokenizerBase,
    seed: int | None = None,
    *,
    pooling: str = "mean",
    attention: str = "",
    hidden: int = 64,
    max_tokens: int = 512,
    **config: Any,
) -> TextEncoder:
    """Random weights of an architecture: two layers, four heads, two of them for keys where they
    may be fewer, FFN 2 H.

    Args:
        architecture: transformers' name of it (model_type): qwen2, mistral, gemma3_text, bert, ...
        tokenizer: any; a copy that lacks eos or pad takes its separator for them. Where
            transformers would load another class of tokenizer for this architecture, bytes take its
            place.
        seed: of the weights; None derives one from the architecture's name.
        pooling: mean, cls or last.
        attention: bidirectional or causal; "" leaves what the architecture does.
        hidden: H, a multiple of eight.
        max_tokens: longest input.
        config: further fields of the architecture's config.

    Raises:
        UsageError: no such architecture, or none that reads text.
    """
    default = _default_config(architecture)
    tokenizer = _fitting(_with_end_and_padding(tokenizer), default, max_tokens)
    sizes = {
        "hidden_size": hidden,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": _HEADS,
        "num_key_value_heads": _HEADS // 2,
        "head_dim": hidden // _HEADS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": max_tokens + 8,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "num_experts": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "embedding_size": hidden,
        "word_embed_proj_dim": hidden,
    }
    names = ("intermediate_size", "moe_intermediate_size", "ffn_dim", "hidden_dim", "n_inner")
    sizes |= dict.fromkeys(names, 2 * hidden)  # the feed-forward width has five names
    known = default.to_dict().keys() | type(default).attribute_map.keys()
    if "layer_types" in known and "sliding_window" in known and architecture.startswith("gemma"):
        # one of each: two layers of six would all be windowed
        sizes["layer_types"] = [
            "sliding_attention",
            "full_attention",
        ]
    fields = {key: value for key, value in sizes.items() if key in known and value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(architecture.encode()) if seed is None else seed)
        try:
            backbone = AutoModel.from_config(
                type(default)(**fields | config), dtype=torch.float32, **pooler_free(architecture)
            )
        except (ValueError, ImportError, TypeError, AttributeError, StrictDataclassError) as err:
            raise UsageError(
                f"architecture {architecture!r} cannot be built small: {str(err).splitlines()[0]}",
                "qwen2 or bert can",
            ) from err
    spec = EncoderSpec(max_tokens=max_tokens)
    return configure(TextEncoder(backbone.eval(), tokenizer, spec), attention, pooling).eval()


def _default_config(architecture: str) -> Any:
    """The architecture's config as it comes.

    Raises:
        UsageError: there is no such architecture, or it is no single model that reads text.
    """
    if architecture not in MODEL_MAPPING_NAMES or architecture not in CONFIG_MAPPING:
        nearest = difflib.get_close_matches(architecture, MODEL_MAPPING_NAMES, n=1)
        raise UsageError(
            f"unknown architecture {architecture!r}"
            + (f": did you mean {nearest[0]}?" if nearest else ""),
            "it is the model_type in a model's config.json: qwen2, mistral, gemma3_text, bert",
        )
    default = CONFIG_MAPPING[architecture]()
    if not hasattr(default, "vocab_size") or getattr(default, "is_encoder_decoder", False):
        raise UsageError(
            f"architecture {architecture!r} is no single model that reads text",
            "qwen2, mistral or bert are",
        )
    return default


def _fitting(
    tokenizer: PreTrainedTokenizerBase, config: Any, max_tokens: int
) -> PreTrainedTokenizerBase:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return (
            tokenizer if comes_back_equal(tokenizer, Path(folder)) else byte_tokenizer(max_tokens)
        )


def _with_end_and_padding(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    end = tokenizer.eos_token or tokenizer.sep_token
    if end is None:
        raise LeafkitError(
            "the tokenizer has neither an eos nor a sep token",
            "a tiny model needs a token that ends a text",
        )
    if tokenizer.eos_token and tokenizer.pad_token:
        return tokenizer
    new = copy.deepcopy(tokenizer)
    new.eos_token, new.pad_token = end, tokenizer.pad_token or end
    return new
