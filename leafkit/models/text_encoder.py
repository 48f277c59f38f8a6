"""The encoder: backbone -> pooling -> projection -> normalise. Teachers and students are both one.

Shapes: B texts, T tokens, H hidden width, D output dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from leafkit.core.devices import send
from leafkit.core.errors import UsageError
from leafkit.core.truncate import truncate_then_normalize
from leafkit.models.attention import attention_mode
from leafkit.models.heads.token_layer import Beside, TokenLayer, through_layer
from leafkit.models.heads.token_table import TokenTable
from leafkit.models.heads.two_layer import Head, apply_head
from leafkit.models.packed.backbone import can_pack, run_packed
from leafkit.models.packed.grouping import TokenIds, group_by_length, pack
from leafkit.models.pooling import (
    POOLINGS,
    count_layers,
    find_layer_fault,
    pool_packed,
    pool_padded,
)
from leafkit.models.room import check_room
from leafkit.models.tokenization import count_prompt, token_of_empty_text, truncated_ids

# a tokenizer holds on to everything that it cut off: a million long texts at once would fill the
# memory
_TEXTS_PER_CALL = 256
_NO_LIMIT = 2**30  # tokens


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What a checkpoint says of an encoder beside its weights.

    Attributes:
        pooling: mean, cls or last.
        normalized: vectors have length one, because a Normalize module says so or because texts
            are compared by cosine.
        prompts: text put before the input, by role ("query", "document").
        max_tokens: longest input, prompt and special tokens included.
        mrl_dims: Matryoshka dimensions, largest first; empty where the model was not trained for
            any.
        attention: bidirectional or causal; "" for an encoder without a choice. A TextEncoder fills
            it in from its backbone.
        templates: what the prompts were made of, by role ("Instruct: {instruction} \\n Query:
            {query}").
        head_layers: hidden states that are pooled and laid side by side for the projection, 0 the
            embeddings'; empty for the last layer's alone.
    """

    pooling: str = "mean"
    normalized: bool = True
    prompts: dict[str, str] = field(default_factory=dict)
    max_tokens: int = 256
    mrl_dims: tuple[int, ...] = ()
    attention: str = ""
    templates: dict[str, str] = field(default_factory=dict)
    head_layers: tuple[int, ...] = ()

    @property
    def similarity(self) -> str:
        """What texts are compared by, as sentence-transformers calls it."""
        return "cosine" if self.normalized else "dot"


class TextEncoder(nn.Module):
    """Token ids to raw vectors; ``finish`` cuts and normalizes them.

    Args:
        backbone: any Hugging Face model whose output has ``last_hidden_state``; ``hidden_states``
            too, where the spec names layers.
        tokenizer: its tokenizer.
        spec: pooling, prompts and lengths.
        projection: W_out of LEAF (arXiv 2509.12539), H -> D, or a head of two layers; None where
            the pooled vector is the output.
        token_table: what the projection reads beside the hidden states, R dimensions; None for
            nothing.
        token_layer: what the last hidden states go through before they are pooled, H -> U; None for
            nothing.
        fingerprint: identity of the weights on disk; "" for a model in the making.

    Raises:
        UsageError: the spec's pooling is unknown, its attention is not the backbone's, its layers
            are not, or what is read is not as wide as what the projection takes, or has none.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        spec: EncoderSpec,
        projection: Head | None = None,
        *,
        token_table: TokenTable | None = None,
        token_layer: TokenLayer | None = None,
        fingerprint: str = "",
    ) -> None:
        super().__init__()
        if spec.pooling not in POOLINGS:
            raise UsageError(f"pooling {spec.pooling!r} is not one of {', '.join(POOLINGS)}")
        attention = attention_mode(backbone)
        if spec.attention not in ("", attention):
            raise UsageError(
                f"attention {spec.attention!r} is not what the backbone computes: "
                f"{attention or 'an encoder has no choice'}",
                "configure() changes both",
            )
        fault = find_layer_fault(spec.head_layers, count_layers(backbone))
        reads_more = "several layers" if spec.head_layers else ""
        if token_layer is not None:
            reads_more = "a layer over tokens"
            if spec.head_layers:
                raise UsageError(
                    "a layer over tokens reads the last hidden states, and head_layers are given",
                    "leave one of them out",
                )
        if token_table is not None:
            reads_more = "a table of token vectors"
        if fault:
            raise UsageError(f"head_layers: {fault}", "leave them empty for the last layer alone")
        if reads_more and projection is None:
            raise UsageError(
                f"{reads_more} beside the last layer need a projection, without which it alone is "
                "served",
                "give a projection, or the last layer alone",
            )
        self.backbone = backbone
        self.projection = projection
        self.token_table = token_table
        self.token_layer = token_layer
        self.tokenizer = tokenizer
        self.spec = replace(spec, attention=attention)
        self.fingerprint = fingerprint
        if projection is not None and projection.in_features != self.hidden_size:
            raise UsageError(
                f"the projection takes {projection.in_features} dimensions, and {self.hidden_size} "
                "are read",
                "make it as wide as hidden states and table together",
            )
        self._roomy: set[tuple[str, str, int]] = set()  # role, prompt and limit, once checked

    @property
    def hidden_size(self) -> int:
        """H, what W_out maps from: the width of the backbone for every layer that is read, or the
        units of the layer over tokens, and the width of the table of token vectors.
        """
        return self.state_dim + self.table_dim

    @property
    def state_dim(self) -> int:
        """What is pooled, without the table of token vectors."""
        if self.token_layer is not None:
            return self.token_layer.out_features
        return int(self.backbone.config.hidden_size) * max(1, len(self.spec.head_layers))

    @property
    def table_dim(self) -> int:
        """R of the table of token vectors; 0 without one."""
        return self.token_table.out_features if self.token_table is not None else 0

    @property
    def num_units(self) -> int:
        """U of the layer over tokens; 0 without one."""
        return self.token_layer.out_features if self.token_layer is not None else 0

    @property
    def beside(self) -> Beside:
        """What it has beside backbone and projection, for another encoder of the same parts."""
        return {"token_table": self.token_table, "token_layer": self.token_layer}

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.hidden_size if self.projection is None else self.projection.out_features

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def num_parameters(self) -> int:
        """All weights, embeddings and projection included."""
        return sum(p.numel() for p in self.parameters())

    def num_embedding_parameters(self) -> int:
        """Those of the vectors of tokens, at the input and beside the transformer."""
        beside = self.token_table.rows.numel() if self.token_table is not None else 0
        return int(self.backbone.get_input_embeddings().weight.numel()) + beside

    def flops_per_token(self) -> int:
        """Multiply-adds of the linear layers counted as two, per token, without attention scores
        and embeddings.
        """
        parts = [self.backbone] if self.token_layer is None else [self.backbone, self.token_layer]
        modules = [module for part in parts for module in part.modules()]
        return 2 * sum(m.weight.numel() for m in modules if isinstance(m, nn.Linear))

    def disable_dropout(self) -> None:
        """Train without dropout: a regression target computed once has no noise to average out.

        Layers that call dropout as a function keep its probability as a number of their own.
        """
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name, value in vars(module).items():
                if "drop" in name and isinstance(value, float):
                    setattr(module, name, 0.0)

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return self.spec.prompts.get(role, "")

    def tokenize(
        self, texts: Sequence[str], role: str, max_tokens: int | None = None
    ) -> list[list[int]]:
        """Token ids of each text with its role's prompt before it, cut at ``max_tokens`` (None and
        0: the model's own limit).

        A text without any token, which some tokenizers make of an empty one, gets
        ``token_of_empty_text``.

        Raises:
            UsageError: the prompt leaves no room for a text.
        """
        if not texts:
            return []
        prompt, limit = self.prompt(role), self.limit(max_tokens)
        self._check_room(role, prompt, limit)
        token_ids: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = [prompt + text for text in texts[start : start + _TEXTS_PER_CALL]]
            found = truncated_ids(self.tokenizer, part, limit)
            token_ids.extend(ids or [token_of_empty_text(self.tokenizer)] for ids in found)
        return token_ids

    def limit(self, max_tokens: int | None) -> int:
        """Tokens of an input that is to be cut at ``max_tokens``; None and 0 take the model's own
        limit, which no input exceeds.
        """
        return min(max_tokens or self.spec.max_tokens, self.spec.max_tokens)

    def count_uncut(self, texts: Sequence[str], role: str) -> list[int]:
        """Tokens of each text with prompt and special tokens, however many there are."""
        prompt = self.prompt(role)
        counts: list[int] = []
        for start in range(0, len(texts), _TEXTS_PER_CALL):
            part = [prompt + text for text in texts[start : start + _TEXTS_PER_CALL]]
            counts.extend(map(len, truncated_ids(self.tokenizer, part, _NO_LIMIT)))
        return counts

    def _check_room(self, role: str, prompt: str, limit: int) -> None:
        if (role, prompt, limit) not in self._roomy:
            num_tokens = count_prompt(self.tokenizer, prompt)
            check_room(role, prompt, prompt_tokens=num_tokens, limit=limit)
            self._roomy.add((role, prompt, limit))

    def pool(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, H) float32 pooled hidden states, those of several layers side by side, the mean of
        the token vectors last. Backbones that ``can_pack`` run without padding, others in groups of
        similar length.
        """
        states = self._pool_states(token_ids)
        if self.token_table is None:
            return states
        return torch.cat([states, self.token_table(token_ids)], dim=1)

    def _pool_states(self, token_ids: TokenIds) -> torch.Tensor:
        if can_pack(self.backbone):
            batch = pack(token_ids, self.device)
            if not self.spec.head_layers:
                read = through_layer(run_packed(self.backbone, batch), self.token_layer)
                return pool_packed(read, batch, self.spec.pooling)
            states = run_packed(self.backbone, batch, all_layers=True)
            layers = [states[layer] for layer in self.spec.head_layers]
            return torch.cat([pool_packed(x, batch, self.spec.pooling) for x in layers], dim=1)
        order, parts = [], []
        for group in group_by_length([len(ids) for ids in token_ids]):
            order.extend(group.tolist())
            parts.append(self._pool_padded([token_ids[i] for i in group]))
        pooled = torch.cat(parts)
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order)] = torch.arange(len(order))
        return pooled[send(back, pooled.device)]

    def token_states(self, token_ids: TokenIds) -> tuple[torch.Tensor, torch.Tensor]:
        """(N,) ids of all tokens of some texts, in any order, and (N, H) their last hidden states
        as the backbone gives them.
        """
        if can_pack(self.backbone):
            batch = pack(token_ids, self.device)
            return batch.ids_N, run_packed(self.backbone, batch)
        found = []
        for text in token_ids:
            ids_1T = torch.tensor([list(text)], device=self.device)
            kwargs = {"use_cache": False} if self.spec.attention else {}
            found.append(
                (ids_1T[0], self.backbone(input_ids=ids_1T, **kwargs).last_hidden_state[0])
            )
        return torch.cat([ids for ids, _ in found]), torch.cat([states for _, states in found])

    def forward(self, token_ids: TokenIds) -> torch.Tensor:
        """(B, D) float32 raw vectors: neither cut nor normalised."""
        return self.project(self.pool(token_ids))

    def project(self, pooled: torch.Tensor) -> torch.Tensor:
        """The head in float32: (B, H) -> (B, D)."""
        if self.projection is None:
            return pooled
        with torch.autocast(pooled.device.type, enabled=False):
            return apply_head(self.projection, pooled)

    def finish(self, raw: torch.Tensor, dim: int | None = None) -> torch.Tensor:
        """Raw vectors as they are served: cut to ``dim``, then normalised where the model
        normalises.
        """
        return truncate_then_normalize(raw, dim) if self.spec.normalized else raw[..., :dim]

    def _pool_padded(self, token_ids: TokenIds) -> torch.Tensor:
        lengths = torch.tensor([len(ids) for ids in token_ids])
        width = int(lengths.max())
        pad = self.tokenizer.pad_token_id or 0
        padded = np.full((len(token_ids), width), pad, dtype=np.int64)
        for row, ids in zip(padded, token_ids, strict=True):
            row[: len(ids)] = ids
        is_full = bool(lengths.min() == width)
        ids_BT, lengths = (send(x, self.device) for x in (torch.from_numpy(padded), lengths))
        mask_BT = torch.arange(width, device=self.device)[None, :] < lengths[:, None]
        # a decoder would keep all keys and values
        kwargs = {"use_cache": False} if self.spec.attention else {}
        if layers := self.spec.head_layers:
            kwargs["output_hidden_states"] = True
        mask = None if is_full else mask_BT.long()
        output = self.backbone(input_ids=ids_BT, attention_mask=mask, **kwargs)
        read = [output.hidden_states[i] for i in layers] or [
            through_layer(output.last_hidden_state, self.token_layer)
        ]
        real_BT, pooling = None if is_full else mask_BT, self.spec.pooling
        pooled = [pool_padded(hidden_BTH, lengths, real_BT, pooling) for hidden_BTH in read]
        return torch.cat(pooled, dim=1)
