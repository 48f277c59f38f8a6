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

import torch
from tokenizers import normalizers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from leafkit.core.artifact import fingerprint as fingerprint_of
from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.remote_code import refuse_foreign_code
from leafkit.models.attention import attention_mode, check_attention, pin_attention
from leafkit.models.folder import (
    fingerprint_of_folder,
    is_ranked_by_cosine,
    read_dense,
    read_json,
    read_object,
    read_prompts,
    write_dense,
    write_json,
)
from leafkit.models.leafkit_json import check_leafkit_json, leafkit_json_fields
from leafkit.models.minilm import download, find_minilm
from leafkit.models.pooling import POOLINGS
from leafkit.models.text_encoder import EncoderSpec, TextEncoder
from leafkit.models.tiny import pooler_free, tiny_encoder
from leafkit.models.tokenization import check_vocabulary, comes_back_equal, without_last_call

_MODULE_TYPES = {
    "Transformer": "",
    "Pooling": "1_Pooling",
    "Dense": "2_Dense",
    "Normalize": "3_Normalize",
}
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
_POOLING_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}


def load_encoder(
    reference: str, revision: str = "", trust_remote_code: bool = False
) -> TextEncoder:
    """An encoder in float32, in evaluation mode.

    Args:
        reference: ``builtin:minilm``, ``model:FOLDER``, ``model:OWNER/NAME@REVISION``, or
            ``tiny:ARCHITECTURE``: random weights of that architecture under MiniLM's tokenizer, the
            same ones every time.
        revision: of a hub model whose reference has none.
        trust_remote_code: run code that comes with a hub model.

    Raises:
        UsageError: the reference is of no known kind, or a hub id comes without a pinned revision.
        LeafkitError: the model cannot be had or is no embedding model made of stock modules.
    """
    if reference.startswith("tiny:"):
        tiny = tiny_encoder(
            reference.removeprefix("tiny:"), AutoTokenizer.from_pretrained(find_minilm())
        )
        tiny.fingerprint = fingerprint_of(reference)
        return tiny
    is_local = Path(reference.removeprefix("model:")).is_dir()
    return read_encoder(
        find_model(reference, revision), trust_remote_code=trust_remote_code and not is_local
    )


def find_model(reference: str, revision: str = "") -> Path:
    """Folder of a model on disk; a hub model is downloaded where it is not there yet. Arguments as
    of ``load_encoder``.

    Raises:
        UsageError: the reference is of no known kind, or a hub id comes without a pinned revision.
        LeafkitError: the model cannot be had.
    """
    kind, _, rest = reference.partition(":")
    if reference == "builtin:minilm":
        return find_minilm()
    if kind != "model" or not rest:
        raise UsageError(
            f"unknown model {reference!r}", "a model is builtin:minilm or model:FOLDER_OR_HUB_ID"
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
    return download(rest, revision)


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

    Raises:
        LeafkitError: something is missing, damaged, not a stock module, or not what leafkit.json
            says of it; the message names the file. Or a decoder does not compute the attention that
            its config says.
    """
    if trust_remote_code:
        refuse_foreign_code(folder)
    modules = _read_modules(folder)
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    # an unused pooler in the file is not worth a warning
    transformers_logging.set_verbosity_error()
    try:
        root = folder / modules["Transformer"]
        model_type = str(read_object(root / "config.json").get("model_type", ""))
        kwargs: dict[str, Any] = {} if trust_remote_code else pooler_free(model_type)
        backbone, loading = AutoModel.from_pretrained(
            root,
            dtype=torch.float32,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **kwargs,
        )
        tokenizer = AutoTokenizer.from_pretrained(root, trust_remote_code=trust_remote_code)
        check_vocabulary(tokenizer, root)
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
    random = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if random:
        raise LeafkitError(
            f"{root}: the weights file lacks {', '.join(random[:3])}",
            "write or download the model again",
        )
    settings = read_object(root / "sentence_bert_config.json", {})
    if settings.get("do_lower_case"):
        _lower_case(tokenizer)
    limit = settings.get("max_seq_length") or min(
        tokenizer.model_max_length, getattr(backbone.config, "max_position_embeddings", 512)
    )
    if not isinstance(limit, int | float) or limit < 1:
        raise LeafkitError(
            f"{root / 'sentence_bert_config.json'}: max_seq_length {limit!r} is no number of "
            f"tokens",
            "restore the file",
        )
    spec = EncoderSpec(
        pooling=_read_pooling(folder / modules["Pooling"]) if "Pooling" in modules else "mean",
        normalized=is_ranked_by_cosine(folder / PROMPTS_FILE, has_normalize="Normalize" in modules),
        prompts=read_prompts(folder / PROMPTS_FILE),
        max_tokens=int(limit),
        mrl_dims=tuple(getattr(backbone.config, "matryoshka_dimensions", None) or ()),
        attention=attention_mode(backbone),
    )
    if (folder / MODEL_SPACE_FILE).is_file():
        spec = replace(
            spec,
            templates=check_leafkit_json(
                folder / MODEL_SPACE_FILE, read_object(folder / MODEL_SPACE_FILE), spec
            ),
        )
    check_attention(backbone)
    projection = read_dense(folder / modules["Dense"]) if "Dense" in modules else None
    return TextEncoder(
        backbone.eval(), tokenizer, spec, projection, fingerprint=fingerprint_of_folder(folder)
    ).eval()


def write_encoder(encoder: TextEncoder, folder: Path, space: dict[str, Any]) -> None:
    """Write a model folder in the legacy layout: it loads in sentence-transformers with the same
    vectors.

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
    encoder.backbone.save_pretrained(folder)
    without_last_call(encoder.tokenizer, encoder.spec.max_tokens).save_pretrained(folder)
    if not comes_back_equal(encoder.tokenizer, folder):
        raise LeafkitError(
            f"{folder}: a {type(encoder.tokenizer).__name__} saved beside a "
            f"{encoder.backbone.config.model_type} model does not"
            " load again as what it was",
            "take the tokenizer that belongs to the architecture",
        )
    used = [
        "Transformer",
        "Pooling",
        *(["Dense"] if encoder.projection is not None else []),
        *(["Normalize"] if encoder.spec.normalized else []),
    ]
    modules = [
        {
            "idx": i,
            "name": str(i),
            "path": _MODULE_TYPES[name],
            "type": f"sentence_transformers.models.{name}",
        }
        for i, name in enumerate(used)
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": encoder.spec.max_tokens, "do_lower_case": False},
    )
    write_json(
        folder / PROMPTS_FILE,
        {
            "prompts": {
                role: encoder.prompt(role) for role in ("query", "document", *encoder.spec.prompts)
            },
            "default_prompt_name": None,
            "similarity_fn_name": encoder.spec.similarity,
        },
    )
    pooling = {"word_embedding_dimension": encoder.hidden_size, "include_prompt": True}
    pooling |= {
        key: name == encoder.spec.pooling for name, key in _LEGACY_POOLING.items()
    } | dict.fromkeys(_UNUSED_POOLING, False)
    (folder / "1_Pooling").mkdir(exist_ok=True)
    write_json(folder / "1_Pooling" / "config.json", pooling)
    if encoder.projection is not None:
        write_dense(encoder.projection, folder / "2_Dense")
    if encoder.spec.normalized:
        (folder / "3_Normalize").mkdir(exist_ok=True)
    write_json(folder / MODEL_SPACE_FILE, space | leafkit_json_fields(encoder.spec))


def _read_modules(folder: Path) -> dict[str, str]:
    if not (folder / "modules.json").is_file():
        if (folder / "config.json").is_file():
            # a bare transformer: mean pooling, normalised
            return {
                "Transformer": "",
                "Normalize": "",
            }
        raise LeafkitError(
            f"{folder} holds no model: neither modules.json nor config.json", "check the path"
        )
    found = {}
    modules = read_json(folder / "modules.json")
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and {"type", "path"} <= m.keys() for m in modules
    ):
        raise LeafkitError(
            f"{folder / 'modules.json'} is corrupt: a module has no type or path",
            "write the model again",
        )
    for module in modules:
        name = str(module["type"]).rpartition(".")[2]
        if name not in _MODULE_TYPES or not str(module["type"]).startswith(
            "sentence_transformers."
        ):
            raise LeafkitError(
                f"{folder}: module {module['type']} is not one of {', '.join(_MODULE_TYPES)}",
                "only stock modules are read",
            )
        if name in found:
            raise LeafkitError(
                f"{folder}: more than one {name} module",
                "models with one module of each kind are read",
            )
        found[name] = str(module["path"])
    if "Transformer" not in found:
        raise LeafkitError(
            f"{folder}/modules.json names no Transformer", "models that start with one are read"
        )
    return found


def _lower_case(tokenizer: PreTrainedTokenizerBase) -> None:
    """Lower-case texts before everything else, as sentence-transformers' do_lower_case does."""
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is None or not backend.normalizer.normalize_str("ABC").islower():
        rest = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])


def _read_pooling(folder: Path) -> str:
    config = read_object(folder / "config.json")
    mode = config.get("pooling_mode")
    modes = (
        [_POOLING_NAMES.get(str(mode), str(mode))]
        if mode
        else [name for name, key in _LEGACY_POOLING.items() if config.get(key)]
    )
    if (
        len(modes) != 1
        or modes[0] not in POOLINGS
        or any(config.get(key) for key in _UNUSED_POOLING)
    ):
        raise LeafkitError(
            f"{folder}/config.json: pooling is not exactly one of {', '.join(POOLINGS)}",
            "other poolings are not read",
        )
    if config.get("include_prompt") is False:
        raise LeafkitError(
            f"{folder}/config.json: pooling leaves the prompt's tokens out",
            "such models are not read",
        )
    return modes[0]
