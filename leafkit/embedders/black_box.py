"""A model folder as a whole, computed by sentence-transformers: what no encoder here can compute
gives vectors all the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers.utils import logging as transformers_logging

from leafkit.core.artifact import fingerprint
from leafkit.core.console import Bar, log, warn
from leafkit.core.errors import LeafkitError, MissingExtra
from leafkit.data.vector_store import Space
from leafkit.embedders.protocol import NO_LIMIT, EmbedderBase
from leafkit.models.checkpoint import PROMPTS_FILE
from leafkit.models.folder import (
    fingerprint_of_folder,
    is_ranked_by_cosine,
    read_object,
    read_prompts,
)
from leafkit.models.foreign.backbone import check_sizes, num_positions
from leafkit.models.foreign.modules import read_modules

_TEXTS_PER_CALL = 512


class BlackBoxEmbedder(EmbedderBase):
    """A folder that only sentence-transformers computes: it teaches, nothing is trained from it.

    Args:
        folder: of the model.
        reason: why no encoder here is made of it.
        device: where to compute, in float32.
        prompts: by role, given by the user; a role without one keeps the folder's own.
        trust_remote_code: run the code that is in the folder.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        LeafkitError: it cannot load the folder either.
    """

    def __init__(
        self,
        folder: Path,
        reason: LeafkitError,
        *,
        device: torch.device,
        prompts: Mapping[str, str] = MappingProxyType({}),
        trust_remote_code: bool = False,
    ) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise MissingExtra(
                "sentence-transformers", "sentence-transformers", f"{reason}; reading it as a whole"
            ) from reason
        log(f"  {reason}: sentence-transformers computes its vectors")
        self._model = _load(folder, device, trust_remote_code)
        self._transformers = [
            (module, _limit(folder, module)) for module in _transformers_in(self._model)
        ]
        own = read_prompts(folder / PROMPTS_FILE)
        given = {r: text for r, text in prompts.items() if text and text != own.get(r)}
        for role in given.keys() & own.keys():
            warn(f"{folder}: {given[role]!r} before each {role}, not {own[role]!r} of its files")
        self._prompts = own | given
        config = read_object(folder / "config.json", {})
        self._mrl_dims = tuple(config.get("matryoshka_dimensions") or ())
        is_listed = (folder / "modules.json").is_file()
        last = read_modules(folder)[-1][0] if is_listed else ""
        self._is_normalized = is_ranked_by_cosine(
            folder / PROMPTS_FILE, has_normalize=last.rpartition(".")[2] == "Normalize"
        )
        own_fingerprint = fingerprint_of_folder(folder)
        self._fingerprint = (
            fingerprint([own_fingerprint, sorted(given.items())]) if given else own_fingerprint
        )
        self._dim = self._encode(["a"], "document", self.max_tokens).shape[1]

    @property
    def fingerprint(self) -> str:
        """Of every file in the folder."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self._dim

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first, where its config names them."""
        return self._mrl_dims

    @property
    def max_tokens(self) -> int:
        """The longest limit of its transformers, each of which keeps to its own; ``NO_LIMIT``
        where it has none.
        """
        return max((limit for _, limit in self._transformers), default=NO_LIMIT)

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return self._prompts.get(role, "")

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in."""
        return Space(
            teacher=self.fingerprint,
            dim=self.dim,
            prompt=self.prompt(role),
            max_tokens=min(max_tokens, self.max_tokens),
            pooling="its own",
            normalized=self._is_normalized,
        )

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts in a role ("query" or "document")."""
        out = np.empty((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = list(texts[start : start + _TEXTS_PER_CALL])
            out[start : start + len(part)] = self._encode(part, role, max_tokens)
            if bar is not None:
                bar.advance(len(part))
        return out

    def _encode(self, texts: list[str], role: str, max_tokens: int) -> np.ndarray:
        for module, limit in self._transformers:
            module.max_seq_length = min(max_tokens, limit)
        vectors: np.ndarray = self._model.encode(
            texts,
            prompt=self.prompt(role),
            task=role,
            normalize_embeddings=self._is_normalized,
            show_progress_bar=False,
        )
        return vectors.astype(np.float32, copy=False)


def _load(folder: Path, device: torch.device, trust_remote_code: bool) -> Any:
    import sentence_transformers

    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        return sentence_transformers.SentenceTransformer(
            str(folder),
            device=str(device),
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32},
        )
    except Exception as err:  # any, from a folder's own code too
        raise LeafkitError(
            f"{folder} cannot be loaded by sentence-transformers: {type(err).__name__}: "
            f"{(str(err).splitlines() or [''])[0]}",
            "check the folder",
        ) from err
    finally:
        transformers_logging.set_verbosity(verbosity)


def _transformers_in(model: Any) -> list[Any]:
    from sentence_transformers.models import Transformer

    return [
        module
        for module in model.modules()
        if isinstance(module, Transformer) and module.tokenizer is not None
    ]


def _limit(folder: Path, transformer: Any) -> int:
    """Its own limit, and never more than there are positions."""
    check_sizes(folder, transformer.auto_model, transformer.tokenizer)
    return int(min(transformer.max_seq_length, num_positions(transformer.auto_model), NO_LIMIT))
