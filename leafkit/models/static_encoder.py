"""A student that looks its vectors up: mean of token vectors -> W_out -> normalise. No attention,
no positions, no limit.

pyNIFE, constella-zero and model2vec are of this kind. Its queries are answered by the teacher's own
index, in about a hundredth of the time that a transformer takes, and less well: words in another
order are the same query.

A table has no prompts. The teacher puts its prompt before a query, and what comes out is what the
table is trained towards, but the prompt's own tokens never enter the mean: they would be the same
in every query, and W_out's bias learns that.

Shapes: B texts, V vocabulary, H width of the table, D output dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedTokenizerBase

from leafkit.core.checkpoint_layout import MODEL_SPACE_FILE
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.models.folder import (
    fingerprint_of_folder,
    is_ranked_by_cosine,
    read_json,
    read_object,
    read_prompts,
    with_aliases,
    write_dense,
    write_json,
)
from leafkit.models.foreign.dense import read_dense
from leafkit.models.foreign.not_stock import NotStock
from leafkit.models.leafkit_json import check_leafkit_json, leafkit_json_fields
from leafkit.models.packed.grouping import TokenIds
from leafkit.models.text_encoder import EncoderSpec

MAX_PARAMETERS = 23_000_000  # of the transformer student that this one replaces
NO_LIMIT = 2**30  # a mean takes any number of tokens
_MODULES = {"StaticEmbedding": "0_StaticEmbedding", "Dense": "1_Dense", "Normalize": "2_Normalize"}
_WEIGHTS_FILE, _TOKENIZER_FILE, _PROMPTS_FILE = (
    "model.safetensors",
    "tokenizer.json",
    "config_sentence_transformers.json",
)
_TABLE_KEY = "embedding.weight"  # what sentence-transformers calls it
_TEXTS_PER_CALL = 4096  # the tokenizer's own objects are larger than the ids they hold
_ABOUT_PROMPTS = (
    "a table of token vectors has no prompt: the teacher's shaped the vectors it was trained "
    "towards"
)


class StaticEncoder(nn.Module):
    """Token ids to raw vectors; an ``Encoder``.

    Args:
        tokenizer: see ``bare_tokenizer``.
        table: (V, H) token vectors. A token's weight in the mean is the length of its vector.
        projection: W_out, H -> D, with bias.
        mrl_dims: Matryoshka dimensions of the space, largest first.
        fingerprint: identity of the weights on disk; "" for a model in the making.

    Raises:
        UsageError: too many parameters.
        LeafkitError: the parts do not fit each other.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        table: torch.Tensor,
        projection: nn.Linear,
        mrl_dims: Sequence[int] = (),
        *,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        num_tokens, bias = tokenizer.get_vocab_size(), "a" if projection.bias is not None else "no"
        if (
            table.ndim != 2
            or len(table) != num_tokens
            or table.shape[1] != projection.in_features
            or projection.bias is None
        ):
            raise LeafkitError(
                f"a table of {tuple(table.shape)} does not fit a vocabulary of {num_tokens:,} "
                f"tokens and a projection of"
                f" {projection.in_features} onto {projection.out_features} with {bias} bias"
            )
        check_size(num_tokens, table.shape[1], projection.out_features)
        self.tokenizer = tokenizer
        self.table = nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="mean")
        self.projection = projection
        self.spec = EncoderSpec(max_tokens=NO_LIMIT, mrl_dims=tuple(mrl_dims))
        self.fingerprint = fingerprint

    @property
    def hidden_size(self) -> int:
        """H, the width of the table."""
        return self.table.embedding_dim

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.projection.out_features

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.table.weight.device

    def num_parameters(self) -> int:
        """All weights, table and projection."""
        return sum(p.numel() for p in self.parameters())

    def num_embedding_parameters(self) -> int:
        """Those of the table."""
        return self.table.weight.numel()

    def flops_per_token(self) -> int:
        """One addition of H numbers; W_out is applied once per text, whatever its length."""
        return self.hidden_size

    def disable_dropout(self) -> None:
        """There is none."""

    def prompt(self, role: str) -> str:
        """Text put before an input of this role: none."""
        return ""

    def tokenize(
        self, texts: Sequence[str], role: str = "query", max_tokens: int | None = None
    ) -> list[list[int]]:
        """Token ids of each text without special tokens, cut at ``max_tokens``; none for an empty
        text.
        """
        return tokenize(self.tokenizer, texts, max_tokens)

    def limit(self, max_tokens: int | None) -> int:
        """Tokens of a text that is to be cut at ``max_tokens``; None and 0 do not cut."""
        return max_tokens or NO_LIMIT

    def count_uncut(self, texts: Sequence[str], role: str) -> list[int]:
        """Tokens of each text, however many there are."""
        return list(map(len, tokenize(self.tokenizer, texts)))

    def pool(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, H) mean of the token vectors; zero for a text without tokens."""
        device = self.device
        starts = np.cumsum([0, *(len(ids) for ids in token_ids[:-1])])
        flat = np.concatenate([np.asarray(ids, dtype=np.int64) for ids in token_ids])
        return self.table(torch.from_numpy(flat).to(device), torch.from_numpy(starts).to(device))

    def forward(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, D) float32 raw vectors: neither cut nor normalised."""
        return self.project(self.pool(token_ids))

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """W_out in float32: (B, H) -> (B, D)."""
        with torch.autocast(pooled.device.type, enabled=False):
            return nn.functional.linear(
                pooled.float(), self.projection.weight, self.projection.bias
            )

    def finish(self, raw: torch.Tensor, dim: int | None = None) -> torch.Tensor:
        """Raw vectors as they are served: cut to ``dim``, then of length one.

        A teacher whose vectors have other lengths is met in direction alone: a query's length
        changes no ranking.
        """
        return truncate_then_normalize(raw, dim)


def check_size(num_tokens: int, width: int, dim: int) -> None:
    """Refuse a table that is larger than the transformer student it replaces.

    Raises:
        UsageError: naming the numbers and the width that fits.
    """
    found = num_tokens * width + width * dim + dim
    if found > MAX_PARAMETERS:
        raise UsageError(
            f"student.static.width={width}: a table of {num_tokens:,} tokens x {width} and W_out "
            f"of {width} x {dim} + {dim} are"
            f" {found:,} parameters; a static student may have {MAX_PARAMETERS:,}",
            f"student.static.width={(MAX_PARAMETERS - dim) // (num_tokens + dim)} or less, fewer "
            f"student.static.num_words, or a student.init with fewer tokens",
        )


def bare_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A copy of the Rust tokenizer under a transformers one, which neither pads nor cuts.

    Raises:
        UsageError: there is none under it.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UsageError(
            f"{type(tokenizer).__name__} has no fast tokenizer, which a static student needs",
            "name another student.init",
        )
    bare = Tokenizer.from_str(backend.to_str())
    bare.no_padding()
    bare.no_truncation()
    return bare


def tokenize(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int | None = None
) -> list[list[int]]:
    """Token ids of each text without special tokens, cut at ``max_tokens`` (None and 0 do not
    cut); empty for an empty text.
    """
    token_ids: list[list[int]] = []
    for start in range(0, len(texts), _TEXTS_PER_CALL):
        encodings = tokenizer.encode_batch_fast(
            list(texts[start : start + _TEXTS_PER_CALL]), add_special_tokens=False
        )
        token_ids.extend(encoding.ids[: max_tokens or None] for encoding in encodings)
    return token_ids


def token_texts(tokenizer: Tokenizer) -> list[str]:
    """The text of every token by id, without marks of where in a word it stands; "" for special
    tokens.
    """
    texts = tokenizer.decode_batch(
        [[i] for i in range(tokenizer.get_vocab_size())], skip_special_tokens=True
    )
    return [text.removeprefix("##").strip() for text in texts]


def is_static(folder: Path) -> bool:
    """Whether a model folder holds a table of token vectors instead of a transformer.

    Raises:
        LeafkitError: its modules.json is corrupt.
    """
    return (folder / "modules.json").is_file() and "StaticEmbedding" in _module_names(folder)


def _module_names(folder: Path) -> dict[str, str]:
    """Folder of each module by its short name, in order."""
    path = folder / "modules.json"
    modules = read_json(path)
    try:
        return {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (TypeError, KeyError) as err:
        raise LeafkitError(
            f"{path} is corrupt: a module has no type or path", "write the model again"
        ) from err


def write_static(encoder: StaticEncoder, folder: Path, space: dict[str, Any]) -> None:
    """Write a model folder of stock sentence-transformers modules: it loads there with the same
    vectors.

    Args:
        encoder: the model; weights are written in float32.
        folder: where to; created.
        space: what the model's vectors may be compared with; see ``write_encoder``.
    """
    for name in _MODULES.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(_MODULES.items())
    ]
    write_json(folder / "modules.json", modules)
    write_json(
        folder / _PROMPTS_FILE,
        {
            "prompts": with_aliases({"query": "", "document": ""}),
            "default_prompt_name": None,
            "similarity_fn_name": encoder.spec.similarity,
        },
    )
    place = folder / _MODULES["StaticEmbedding"]
    save_file(
        {_TABLE_KEY: encoder.table.weight.detach().float().contiguous()}, place / _WEIGHTS_FILE
    )
    encoder.tokenizer.save(str(place / _TOKENIZER_FILE))
    write_dense(encoder.projection, folder / _MODULES["Dense"])
    told = {
        "student_kind": "static",
        "mrl_dims": list(encoder.spec.mrl_dims),
        "about_prompts": _ABOUT_PROMPTS,
    }
    write_json(folder / MODEL_SPACE_FILE, space | leafkit_json_fields(encoder.spec) | told)


def read_static(folder: Path) -> StaticEncoder:
    """The static encoder in a sentence-transformers folder, float32.

    Raises:
        LeafkitError: something is missing, damaged or not one of the three modules that
            ``write_static`` writes, numbers are not finite, or the files name a prompt; the message
            names the file.
    """
    modules = _module_names(folder)
    if list(modules) != list(_MODULES):
        raise NotStock(
            f"{folder}/modules.json: {', '.join(modules) or 'no modules'} instead of "
            f"{', '.join(_MODULES)}"
        )
    prompts = read_prompts(folder / _PROMPTS_FILE)
    if prompts:
        raise LeafkitError(
            f"{folder}/{_PROMPTS_FILE}: prompts {prompts}, and {_ABOUT_PROMPTS}",
            "restore the file: its prompts are empty",
        )
    is_ranked_by_cosine(folder / _PROMPTS_FILE, has_normalize=True)
    place = folder / modules["StaticEmbedding"]
    try:
        table = load_file(place / _WEIGHTS_FILE)[_TABLE_KEY].float()
    except (OSError, SafetensorError, KeyError) as err:
        raise _damaged(place / _WEIGHTS_FILE, err) from err
    try:
        tokenizer = Tokenizer.from_file(str(place / _TOKENIZER_FILE))
    except Exception as err:  # what the Rust library raises has no class of its own
        raise _damaged(place / _TOKENIZER_FILE, err) from err
    projection = read_dense(folder / modules["Dense"])
    for path, weights in (
        (place, [table]),
        (folder / modules["Dense"], list(projection.parameters())),
    ):
        if not all(torch.isfinite(numbers).all() for numbers in weights):
            raise LeafkitError(
                f"{path / _WEIGHTS_FILE} holds numbers that are not finite", "write the model again"
            )
    space = read_object(folder / MODEL_SPACE_FILE, {})
    check_leafkit_json(folder / MODEL_SPACE_FILE, space, EncoderSpec())
    dims = space.get("mrl_dims", [])
    if not isinstance(dims, list) or not all(
        isinstance(dim, int) and 0 < dim <= projection.out_features for dim in dims
    ):
        raise LeafkitError(
            f"{folder / MODEL_SPACE_FILE}: mrl_dims {dims!r} are not dimensions of its vectors",
            "restore the file",
        )
    try:
        return StaticEncoder(
            tokenizer, table, projection, dims, fingerprint=fingerprint_of_folder(folder)
        ).eval()
    except LeafkitError as err:
        raise LeafkitError(f"{folder}: {err}", "write the model again") from err


def _damaged(path: Path, err: Exception) -> LeafkitError:
    what = (
        "is missing"
        if not path.is_file()
        else f"cannot be read: {type(err).__name__}: {str(err).splitlines()[0]}"
    )
    return LeafkitError(f"{path} {what}", "write the model again")
