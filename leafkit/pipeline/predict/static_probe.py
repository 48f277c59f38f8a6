"""A probe of a static student: a table of token vectors, trained on some texts as such a student
is, and what it finds for others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from leafkit.config import StudentConfig
from leafkit.embedders.token_reader import bare_reader, read_flat
from leafkit.evaluation.forecast.yardstick import Yardstick
from leafkit.models.static_encoder import StaticEncoder, bare_tokenizer
from leafkit.models.static_init import context_vectors, count_tokens, start_table
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.student.static import train_static
from leafkit.pipeline.student.targets import Distillation, Target, TokenLimits
from leafkit.pipeline.student.text_groups import DOCUMENTS
from leafkit.results.prediction import ProbeAt

_ROLES = ("document", "query")


class StaticProbe:
    """Trains tables on a teacher's vectors of documents alone, which start at the mean of texts
    with each token.

    Args:
        start: whose tokenizer is taken.
        teacher: of the student; it is asked nothing.
        config: of the student.
        limits: where texts are cut.
        seed: of the batches.
    """

    def __init__(
        self,
        start: TextEncoder,
        teacher: ModelHandle,
        config: StudentConfig,
        limits: TokenLimits,
        *,
        seed: int,
    ) -> None:
        self._tokenizer = bare_tokenizer(start.tokenizer)
        self._config = replace(config, kind="static")
        self._teacher, self._limits, self._seed = teacher, limits, seed
        self._longest = start.spec.max_tokens

    def train(self, texts: Sequence[str], vectors: np.ndarray) -> StaticEncoder:
        """A table fitted to texts, (n, D) of the teacher."""
        num_tokens, dim = self._tokenizer.get_vocab_size(), vectors.shape[1]
        target = Target(list(texts), "document", vectors, name="documents", origin=DOCUMENTS)
        limit = self._limits.of("document") or self._longest
        ids = read_flat(bare_reader(self._tokenizer, limit), target.texts)
        parts = [(ids[0 : len(ids)], vectors)]
        counts = count_tokens(ids.chunks(), num_tokens)
        begun = start_table(
            context_vectors(parts, num_tokens, dim), counts, self._config.static.width
        )
        projection = nn.Linear(len(begun.weight), dim)
        with torch.no_grad():
            projection.weight.copy_(torch.from_numpy(begun.weight.T))
            projection.bias.copy_(torch.from_numpy(begun.bias))
        table = StaticEncoder(self._tokenizer, torch.from_numpy(begun.table), projection, ())
        task = Distillation(
            teacher=self._teacher,
            targets=[target],
            config=self._config,
            limits=self._limits,
            embed=_embed_nothing,
            device=torch.device("cpu"),
            precision=torch.float32,
            seed=self._seed,
        )
        train_static(table, task, [ids], {})
        return table

    def embed(self, table: StaticEncoder, texts: Sequence[str], role: str) -> np.ndarray:
        """(n, D) unit vectors of texts."""
        limit = self._limits.of(role) or self._longest
        ids = read_flat(bare_reader(self._tokenizer, limit), texts)
        with torch.inference_mode():
            found: np.ndarray = table.finish(table([ids[i] for i in range(len(ids))])).numpy()
        return found

    def probe(
        self,
        texts: Sequence[str],
        vectors: np.ndarray,
        asked: tuple[Sequence[str], Sequence[str]],
        yardstick: Yardstick,
        *,
        counts: Sequence[int],
    ) -> tuple[list[ProbeAt], StaticEncoder]:
        """Probes of rising numbers of texts, and the table of the last.

        Args:
            texts: to fit.
            vectors: (n, D) of the teacher.
            asked: the held-out documents, and the queries.
            yardstick: what is measured with.
            counts: numbers of texts, rising.
        """
        found = []
        for count in counts:
            table = self.train(texts[:count], vectors[:count])
            made = [self.embed(table, part, role) for part, role in zip(asked, _ROLES, strict=True)]
            found.append(ProbeAt(count, yardstick.measure(*made)))
        return found, table


def _embed_nothing(texts: Sequence[str], role: str, max_tokens: int, what: str) -> np.ndarray:
    raise AssertionError(f"a probe asks for no further vectors: {what}")
