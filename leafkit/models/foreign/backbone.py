"""The transformer and the tokenizer of a folder: from weights of any form, without what no text's
vector needs, and checked against each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForTextEncoding,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

from leafkit.core.console import warn
from leafkit.core.errors import LeafkitError
from leafkit.models.folder import ADAPTER_FILE, adapter_base, read_object
from leafkit.models.foreign.adapter import base_folder, merge_adapter
from leafkit.models.foreign.modules import PACKAGE, read_modules
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.pooling import pooler_free
from leafkit.models.tokenization import with_asked_ends

NO_LIMIT = 2**30
_POSITION_TABLES = ("position_embeddings", "position_embedding", "embed_positions", "wpe")
_TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
_AGAIN = "write or download the model again"


def own_code(folder: Path) -> list[str]:
    """Code that a folder's files name for config, model, tokenizer or modules, each with its file;
    that of the model under an adapter too.
    """
    found = []
    files = {
        "config.json": ("AutoConfig", "AutoModel"),
        "tokenizer_config.json": ("AutoTokenizer",),
    }
    for path in sorted(path for name in files for path in folder.rglob(name)):
        named = read_object(path).get("auto_map")
        for kind in files[path.name]:
            if isinstance(named, Mapping) and named.get(kind):
                found.append(f"{path.relative_to(folder)}: {named[kind]}")
    if (folder / "modules.json").is_file():
        kinds = [kind for kind, _ in read_modules(folder) if not kind.startswith(PACKAGE)]
        found.extend(f"modules.json: {kind}" for kind in kinds)
    base = adapter_base(folder) if (folder / ADAPTER_FILE).is_file() else None
    return found + ([f"{base}/{code}" for code in own_code(base)] if base is not None else [])


def load_backbone(root: Path) -> PreTrainedModel:
    """The transformer in a folder, float32: of an encoder-decoder the encoder, of a model that
    reads images too its text model, with adapters merged.

    Raises:
        NotStock: sentence-transformers may read it, and it gives no hidden states of a text alone.
        LeafkitError: weights are missing.
        Exception: whatever transformers raises on damaged files.
    """
    place = base_folder(root) if (root / ADAPTER_FILE).is_file() else root
    read_object(place / "config.json")
    config = AutoConfig.from_pretrained(place)
    kind = AutoModel
    encoder = str(MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type, ""))
    if encoder.endswith("EncoderModel"):  # of T5 and its kin, whose model has a decoder too
        kind = AutoModelForTextEncoding
    elif getattr(config, "is_encoder_decoder", False):
        raise NotStock(f"{root / 'config.json'}: a {config.model_type} has a decoder too")
    backbone, loading = kind.from_pretrained(
        place,
        dtype=torch.float32,
        output_loading_info=True,
        **pooler_free(str(config.model_type)),
    )
    lacking = sorted(key for key in loading["missing_keys"] if not _is_pooler(key))
    if lacking:
        raise LeafkitError(f"{place}: the weights file lacks {', '.join(lacking[:3])}", _AGAIN)
    if place != root:
        backbone = merge_adapter(backbone, root)
    return _text_model(backbone, root)


def _is_pooler(key: str) -> bool:
    return key.startswith("pooler.")


def load_tokenizer(root: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder, or of an adapter's base where it has none; it begins and ends
    texts as its config asks.

    Raises:
        Exception: whatever transformers raises on damaged files.
    """
    is_base = (root / ADAPTER_FILE).is_file() and not any(
        (root / name).is_file() for name in _TOKENIZER_FILES
    )
    place = base_folder(root) if is_base else root
    tokenizer = AutoTokenizer.from_pretrained(place)
    config = read_object(place / "tokenizer_config.json", {})
    asked = with_asked_ends(tokenizer, config)
    if asked is not tokenizer:
        warn(
            f"{place / 'tokenizer_config.json'} asks for a token at the beginning or the end of "
            f"every text, and tokenizer.json puts none: it is put"
        )
    return asked


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_sizes(root: Path, backbone: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose tokens have no row in the table of token vectors.

    Raises:
        LeafkitError: naming token and table.
    """
    num_rows = len(backbone.get_input_embeddings().weight)
    beyond = {name: i for name, i in tokenizer.get_vocab().items() if i >= num_rows}
    if beyond:
        first = min(beyond, key=lambda name: beyond[name])
        raise LeafkitError(
            f"{root}: the tokenizer has {len(beyond)} tokens beyond the {num_rows:,} of the "
            f"model's table, {first!r} ({beyond[first]:,}) the first: no text with one of them has "
            f"a vector",
            "enlarge the table (resize_token_embeddings), or restore the tokenizer",
        )


def token_limit(
    root: Path,
    backbone: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: Mapping[str, Any],
) -> int:
    """Longest input in tokens: what the files say, as sentence-transformers reads them, and never
    more than there are positions.

    Raises:
        LeafkitError: the files say something that is no number of tokens.
    """
    told = settings.get("max_seq_length")
    if not _is_number(tokenizer.model_max_length):  # it is compared with whatever else is told
        told = None
    limit = told
    if limit is None:
        limit = tokenizer.model_max_length
        trained = getattr(backbone.config.get_text_config(), "max_position_embeddings", -1)
        if _is_number(limit) and isinstance(trained, int) and trained > 0:
            limit = min(limit, trained)
    if not _is_number(limit) or not limit >= 1:
        where, key = "sentence_bert_config.json", "max_seq_length"
        if told is None:
            where, key = "tokenizer_config.json", "model_max_length"
        raise LeafkitError(
            f"{root / where}: {key} {str(limit)[:40]!r} is no number of tokens", "restore the file"
        )
    positions = num_positions(backbone)
    if positions < limit and told is not None:
        warn(
            f"{root}: max_seq_length is {told:,} and the model has {positions:,} positions: texts "
            f"are cut at {positions:,} tokens"
        )
    return int(min(limit, positions))


def num_positions(backbone: torch.nn.Module) -> int:
    """Tokens that a learned table of positions has room for; ``NO_LIMIT`` without such a table.

    RoBERTa's family counts positions from behind the padding's id, OPT from 2.
    """
    return min((_room(table) for table in _position_tables(backbone)), default=NO_LIMIT)


def _position_tables(backbone: torch.nn.Module) -> Iterator[torch.nn.Embedding]:
    for module in backbone.modules():
        for name in _POSITION_TABLES:
            table = getattr(module, name, None)
            if isinstance(table, torch.nn.Embedding):
                yield table


def _room(table: torch.nn.Embedding) -> int:
    first = table.padding_idx + 1 if table.padding_idx is not None else 0
    return int(table.num_embeddings - max(first, getattr(table, "offset", 0)))


def _text_model(backbone: PreTrainedModel, root: Path) -> PreTrainedModel:
    """The text model of one that reads images or sound too; another is returned as it is."""
    text_config = backbone.config.get_text_config()
    if text_config is backbone.config:
        return backbone
    text_model = getattr(backbone, "language_model", None)
    if not isinstance(text_model, PreTrainedModel):
        raise NotStock(
            f"{root / 'config.json'}: a {backbone.config.model_type} keeps its text model where it "
            f"is not found"
        )
    return text_model
