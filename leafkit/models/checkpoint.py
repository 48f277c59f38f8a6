"""Model folders: stock sentence-transformers modules, in the layout that every version and every
server reads.

sentence-transformers >= 5.4 writes another layout, which text-embeddings-inference refuses; it is
read here too, but the legacy one is written.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import normalizers
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from leafkit.core.artifact import fingerprint as fingerprint_of
from leafkit.core.builtin_models.table import BUILTIN_NAMES, KIND
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.remote_code import refuse_foreign_code
from leafkit.models.attention import attention_mode, check_attention, pin_attention
from leafkit.models.builtin.find import find_builtin
from leafkit.models.builtin.hub import download
from leafkit.models.folder import (
    GELU,
    RELU,
    TOKEN_FOLDER,
    TOKENS,
    fingerprint_of_folder,
    is_ranked_by_cosine,
    read_object,
    read_prompts,
    with_aliases,
    write_dense,
    write_json,
)
from leafkit.models.foreign.backbone import (
    check_sizes,
    load_backbone,
    load_tokenizer,
    own_code,
    token_limit,
)
from leafkit.models.foreign.modules import Stock, read_stock
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.heads.token_table import read_token_table, write_token_table
from leafkit.models.heads.two_layer import Head, TwoLayerHead, to_dense
from leafkit.models.leafkit_json import check_leafkit_json, leafkit_json_fields
from leafkit.models.pooling import count_layers, find_layer_fault, state_with_pooler
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tiny import tiny_encoder
from leafkit.models.tokenization import check_vocabulary, comes_back_equal, without_last_call

PROMPTS_FILE = "config_sentence_transformers.json"
_LEGACY_POOLING = {
    "mean": "pooling_mode_mean_tokens",
    "cls": "pooling_mode_cls_token",
    "last": "pooling_mode_lasttoken",
}
_UNUSED_POOLING = (
    "pooling_mode_max_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens",
)


def load_encoder(
    reference: str, revision: str = "", trust_remote_code: bool = False
) -> TextEncoder:
    """An encoder in float32, in evaluation mode.

    Args:
        reference: ``builtin:NAME``, ``model:FOLDER``, ``model:OWNER/NAME@REVISION``, or
            ``tiny:ARCHITECTURE``: random weights of that architecture under MiniLM's tokenizer, the
            same ones every time.
        revision: of a hub model whose reference has none.
        trust_remote_code: as of ``read_encoder``.

    Raises:
        UsageError: the reference is of no known kind, or a hub id comes without a pinned revision.
        LeafkitError: the model cannot be had, or see ``read_encoder``.
    """
    if reference.startswith("tiny:"):
        tiny = tiny_encoder(
            reference.removeprefix("tiny:"),
            AutoTokenizer.from_pretrained(find_builtin("builtin:minilm")),
        )
        tiny.fingerprint = fingerprint_of(reference)
        return tiny
    return read_encoder(find_model(reference, revision, trust_remote_code), trust_remote_code)


def find_model(reference: str, revision: str = "", trust_remote_code: bool = False) -> Path:
    """Folder of a model on disk; a hub model is downloaded where it is not there yet. Arguments as
    of ``load_encoder``.

    Raises:
        UsageError: the reference is of no known kind, or a hub id comes without a pinned revision.
        LeafkitError: the model cannot be had.
    """
    kind, _, rest = reference.partition(":")
    if kind == KIND:
        return find_builtin(reference)
    if kind != "model" or not rest:
        raise UsageError(
            f"unknown model {reference!r}", f"a model is {BUILTIN_NAMES} or model:FOLDER_OR_HUB_ID"
        )
    if Path(rest).is_dir():
        return Path(rest)
    rest, _, pinned = rest.partition("@")
    revision = pinned or revision
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", rest) or rest.startswith((".", "/")):
        raise UsageError(
            f"{reference}: no such folder, and not a hub id",
            "give an existing folder or OWNER/NAME of the hub",
        )
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise UsageError(
            f"{reference}: a hub model needs its revision, so that its vectors cannot change",
            f"model:{rest}@40-HEX-COMMIT",
        )
    return download(rest, revision, trust_remote_code)


def identify_model(reference: str) -> str:
    """What decides about a model's weights: a local folder's content, else the reference, which is
    pinned.
    """
    folder = Path(reference.removeprefix("model:"))
    return (
        fingerprint_of_folder(folder)
        if reference.startswith("model:") and folder.is_dir()
        else reference
    )


def read_encoder(folder: Path, trust_remote_code: bool = False) -> TextEncoder:
    """The encoder in a sentence-transformers folder, either layout, float32.

    Args:
        folder: of the model.
        trust_remote_code: a folder with code of its own may teach as a whole; without it, it is
            refused for good.

    Raises:
        NotStock: only sentence-transformers can compute it.
        LeafkitError: something is missing, damaged, too large for something else, or not what
            leafkit.json says of it; the message names the file. Or a decoder does not compute the
            attention that its config says.
    """
    refuse_own_code(folder, trust_remote_code)
    stock = read_stock(folder)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    # an unused pooler in the file is not worth a warning
    transformers_logging.set_verbosity_error()
    try:
        backbone, tokenizer = load_backbone(stock.root), load_tokenizer(stock.root)
        check_vocabulary(tokenizer, stock.root)
    except LeafkitError:
        raise
    except Exception as err:
        # transformers parses damaged files with whatever exception that brings
        raise LeafkitError(
            f"{folder} cannot be loaded: {type(err).__name__}: "
            f"{(str(err).splitlines() or [''])[0]}",
            "check the folder",
        ) from err
    finally:
        transformers_logging.set_verbosity(verbosity)
    if stock.settings.get("do_lower_case"):
        _lower_case(tokenizer)
    check_sizes(stock.root, backbone, tokenizer)
    spec = EncoderSpec(
        pooling=stock.pooling,
        normalized=is_ranked_by_cosine(folder / PROMPTS_FILE, has_normalize=stock.normalized),
        prompts=read_prompts(folder / PROMPTS_FILE),
        max_tokens=token_limit(stock.root, backbone, tokenizer, stock.settings),
        mrl_dims=tuple(getattr(backbone.config, "matryoshka_dimensions", None) or ()),
        attention=attention_mode(backbone),
        head_layers=stock.head_layers,
    )
    if (folder / MODEL_SPACE_FILE).is_file():
        spec = replace(
            spec,
            templates=check_leafkit_json(
                folder / MODEL_SPACE_FILE,
                read_object(folder / MODEL_SPACE_FILE),
                spec,
                table_dim=stock.table_dim,
                num_units=stock.token_layer.out_features if stock.token_layer else 0,
            ),
        )
    check_attention(backbone)
    table = None
    if stock.table_dim:
        num_tokens = int(backbone.get_input_embeddings().weight.shape[0])
        table = read_token_table(folder, stock.table_dim, num_tokens)
    return TextEncoder(
        backbone.eval(),
        tokenizer,
        spec,
        _fitting(stock, folder, backbone),
        token_table=table,
        token_layer=stock.token_layer,
        fingerprint=fingerprint_of_folder(folder),
    ).eval()


def write_encoder(encoder: TextEncoder, folder: Path, space: dict[str, Any]) -> None:
    """Write a model folder in the legacy layout: it loads in sentence-transformers with the same
    vectors. One whose head reads several layers, or a table of token vectors, loads here alone: its
    Dense module is wider than what others pool.

    Args:
        encoder: the model; weights are written in float32.
        folder: where to; created.
        space: what the model's vectors may be compared with (teacher fingerprint, dimension), kept
            in leafkit.json beside the encoder's own pooling, attention, prompts and templates.

    Raises:
        LeafkitError: the tokenizer would not load again as what it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder.backbone.config.matryoshka_dimensions = list(encoder.spec.mrl_dims) or None
    pin_attention(encoder.backbone)
    if encoder.tokenizer.pad_token is None and encoder.tokenizer.eos_token is not None:
        # others pad batches with it, behind a mask; Mistral has none
        encoder.tokenizer.pad_token = encoder.tokenizer.eos_token
    transformers_logging.disable_progress_bar()
    encoder.backbone.save_pretrained(folder, state_dict=state_with_pooler(encoder.backbone))
    without_last_call(encoder.tokenizer, encoder.spec.max_tokens).save_pretrained(folder)
    if not comes_back_equal(encoder.tokenizer, folder):
        raise LeafkitError(
            f"{folder}: a {type(encoder.tokenizer).__name__} saved beside a "
            f"{encoder.backbone.config.model_type} model does not"
            " load again as what it was",
            "take the tokenizer that belongs to the architecture",
        )
    used = _modules_of(encoder)
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": place,
            "type": f"sentence_transformers.models.{name}",
        }
        for i, (name, place) in enumerate(used)
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": encoder.spec.max_tokens, "do_lower_case": False},
    )
    write_json(
        folder / PROMPTS_FILE,
        {
            "prompts": with_aliases(
                {
                    role: encoder.prompt(role)
                    for role in ("query", "document", *encoder.spec.prompts)
                }
            ),
            "default_prompt_name": None,
            "similarity_fn_name": encoder.spec.similarity,
        },
    )
    # what the stock module gives: a Dense module that reads more takes more, so that others fail at
    # its shape instead of giving other vectors
    width = encoder.num_units or int(encoder.backbone.config.hidden_size)
    pooling = {"word_embedding_dimension": width, "include_prompt": True}
    pooling |= {
        key: name == encoder.spec.pooling for name, key in _LEGACY_POOLING.items()
    } | dict.fromkeys(_UNUSED_POOLING, False)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    _write_head(encoder, folder)
    if encoder.spec.normalized:
        (folder / used[-1][1]).mkdir(exist_ok=True)
    told = leafkit_json_fields(encoder.spec, encoder.table_dim, encoder.num_units)
    write_json(folder / MODEL_SPACE_FILE, space | told)


def _modules_of(encoder: TextEncoder) -> list[tuple[str, str]]:
    """Kind and folder of each module, in order."""
    head = encoder.projection
    has_two = isinstance(head, TwoLayerHead)
    return [
        ("Transformer", ""),
        *([("Dense", TOKEN_FOLDER)] if encoder.token_layer is not None else []),
        ("Pooling", "1_Pooling"),
        *([("Dense", "2_Dense")] if head is not None else []),
        *([("Dense", "3_Dense")] if has_two else []),
        *([("Normalize", "4_Normalize" if has_two else "3_Normalize")] * encoder.spec.normalized),
    ]


def _write_head(encoder: TextEncoder, folder: Path) -> None:
    """Its Dense modules, and what they read beside the hidden states."""
    head, layers, table_dim = encoder.projection, encoder.spec.head_layers, encoder.table_dim
    if encoder.token_table is not None:
        write_token_table(encoder.token_table, folder)
    if encoder.token_layer is not None:
        place = folder / TOKEN_FOLDER
        write_dense(encoder.token_layer.linear, place, activation=RELU, output=TOKENS)
    if isinstance(head, TwoLayerHead):
        first, second = to_dense(head)
        write_dense(first, folder / "2_Dense", layers, token_table=table_dim, activation=GELU)
        write_dense(second, folder / "3_Dense")
    elif head is not None:
        write_dense(head, folder / "2_Dense", layers, token_table=table_dim)


def refuse_own_code(folder: Path, trust_remote_code: bool) -> None:
    """Refuse a folder with code of its own: transformers and sentence-transformers would compute a
    stock model in its place, without a word.

    Raises:
        NotStock: the code is trusted, and only sentence-transformers runs it.
        LeafkitError: it is not trusted, or lies in another repository, which nothing pins.
    """
    refuse_foreign_code(folder)
    code = own_code(folder)
    if code and trust_remote_code:
        raise NotStock(f"{folder} is computed by code of its own ({', '.join(code)})")
    if code:
        raise LeafkitError(
            f"{folder} is computed by code of its own ({', '.join(code)}), which is not trusted: "
            f"without it the vectors would be others",
            "read that code; teacher.trust_remote_code=true, or trust_remote_code=True in Python, "
            "runs it",
        )


def _fitting(stock: Stock, folder: Path, backbone: PreTrainedModel) -> Head | None:
    projection, layers = stock.projection, stock.head_layers
    if fault := find_layer_fault(layers, count_layers(backbone)):
        raise LeafkitError(
            f"{folder}: its Dense module reads several layers, and {fault}",
            "write or download the model again",
        )
    hidden = int(backbone.config.hidden_size)
    width = hidden * max(1, len(layers)) + stock.table_dim
    if (token_layer := stock.token_layer) is not None:
        if token_layer.in_features != hidden or layers:
            raise LeafkitError(
                f"{folder}: its Dense module over tokens takes {token_layer.in_features} "
                f"dimensions of the model's {hidden}, or the one after the pooling reads other "
                "layers",
                "write or download the model again",
            )
        width = token_layer.out_features + stock.table_dim
    if projection is not None and projection.in_features != width:
        raise LeafkitError(
            f"{folder}: its Dense module takes {projection.in_features} dimensions, and the model "
            f"gives {width}",
            "write or download the model again",
        )
    return projection


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Lower-case texts before everything else, as sentence-transformers' do_lower_case does."""
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is None or not backend.normalizer.normalize_str("ABC").islower():
        rest = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])
