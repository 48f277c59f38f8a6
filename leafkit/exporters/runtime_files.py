"""What stands beside a graph, so that tools which know the files of transformers and of
sentence-transformers open its folder: config, tokenizer, modules, prompts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError
from leafkit.models.attention import pin_attention
from leafkit.models.checkpoint import PROMPTS_FILE
from leafkit.models.folder import write_json
from leafkit.models.foreign.older_transformers import add_older_keys
from leafkit.models.leafkit_json import leafkit_json_fields
from leafkit.models.text_encoder import TextEncoder
from leafkit.models.tokenization import comes_back_equal, without_last_call


def write_runtime_files(
    encoder: TextEncoder, folder: Path, space: Mapping[str, object], *, has_tokens: bool
) -> None:
    """Write everything but the graphs.

    modules.json names no Dense module: W_out is in the graph, and whoever pools its token vectors
    has the model's. Where the graph gives finished vectors alone there is no modules.json, for
    nothing is left to do.

    Args:
        encoder: that the graphs are of.
        folder: where to.
        space: what leafkit.json says of the vectors' space.
        has_tokens: the graph gives the vectors of all tokens, W_out applied.

    Raises:
        LeafkitError: the tokenizer has no fast form, or would load as another one.
    """
    if not encoder.tokenizer.is_fast:
        raise LeafkitError(
            f"a {type(encoder.tokenizer).__name__} has no fast form, and runtimes read no other",
            "to=hub writes the model for the tools that run it with torch",
        )
    pin_attention(encoder.backbone)
    config = copy.deepcopy(encoder.backbone.config)
    config.architectures = [type(encoder.backbone).__name__]
    config.matryoshka_dimensions = list(encoder.spec.mrl_dims) or None
    tokenizer = without_last_call(encoder.tokenizer, encoder.spec.max_tokens)
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    # padding stands behind a mask; readers take its id from here
    config.pad_token_id = tokenizer.pad_token_id
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    add_older_keys(folder)
    if not comes_back_equal(encoder.tokenizer, folder):
        raise LeafkitError(
            f"{folder}: a {type(encoder.tokenizer).__name__} saved beside a {config.model_type} "
            "model does not load again as what it was",
            "take the tokenizer that belongs to the architecture",
        )
    specials = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    write_json(folder / "special_tokens_map.json", specials)
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": encoder.spec.max_tokens, "do_lower_case": False},
    )
    prompts = {role: encoder.prompt(role) for role in ("query", "document", *encoder.spec.prompts)}
    told = {
        "prompts": prompts,
        "default_prompt_name": "query" if prompts["query"] else None,
        "similarity_fn_name": encoder.spec.similarity,
    }
    write_json(folder / PROMPTS_FILE, told)
    if has_tokens:
        _write_modules(encoder, folder)
    fields = leafkit_json_fields(encoder.spec, encoder.table_dim, encoder.num_units)
    write_json(folder / MODEL_SPACE_FILE, dict(space) | fields)


def _write_modules(encoder: TextEncoder, folder: Path) -> None:
    used = [("Transformer", ""), ("Pooling", "1_Pooling")]
    used += [("Normalize", "2_Normalize")] if encoder.spec.normalized else []
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(used)
    ]
    write_json(folder / "modules.json", modules)
    pooling = {
        "word_embedding_dimension": encoder.dim,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
        "pooling_mode_weightedmean_tokens": False,
        "pooling_mode_lasttoken": False,
        "include_prompt": True,
    }
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling)
    if encoder.spec.normalized:
        (folder / "2_Normalize").mkdir()
