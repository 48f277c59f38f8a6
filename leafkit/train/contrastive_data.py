"""Training pairs as a data module: random batches for ``ContrastiveModule``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from leafkit.config import MixingConfig
from leafkit.core.errors import UsageError
from leafkit.data.batching import random_batches
from leafkit.data.pair_records import rows_of_pairs
from leafkit.data.prompts import find_prompt
from leafkit.embedders.token_reader import read_flat, reader_of
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.batch_data import BatchData
from leafkit.train.batch_list import BatchList
from leafkit.train.contrastive_batch import TrainingTable, collate


class ContrastiveData(BatchData):
    """Pairs in random batches; every other row's document is a negative, as are a row's own.

        module = ContrastiveModule(encoder, OptimizerConfig(), ContrastiveLossConfig())
        data = ContrastiveData([{"query": "...", "positives": ["..."], "negatives": []}, ...])
        lightning.Trainer(max_epochs=2).fit(module, data)

    A document is never a negative of a query that some row calls it a positive of. The rows of a
    pass that do not fill its last batch are left out of that pass. Queries and documents get the
    module's encoder's own prompts.

    Args:
        pairs: rows {"query", "positives" (or "positive"), "negatives"?}; a row per positive.
        batch_size: rows per batch, over all processes.
        max_query_tokens: queries are cut here; None takes the encoder's own limit.
        max_document_tokens: likewise for documents.
        mixing: synthetic negatives; None mixes none.
        seed: of the order and of what is mixed.

    Raises:
        UsageError: a row is not of that form, has an instruction or task of its own, or there are
            fewer than a batch holds; in ``setup`` if queries hold a prompt and the encoder has one.
    """

    def __init__(
        self,
        pairs: Sequence[Mapping[str, Any]],
        *,
        batch_size: int = 64,
        max_query_tokens: int | None = None,
        max_document_tokens: int | None = None,
        mixing: MixingConfig | None = None,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self._rows = rows_of_pairs("pairs", pairs)
        for what, own in (("instruction", self._rows.instructions), ("task", self._rows.tasks)):
            if any(own):
                raise UsageError(
                    f"a pair with {what}={next(filter(None, own))!r} of its own: all texts get the "
                    f"encoder's prompts here",
                    "take leafkit.train_teacher, which makes prompts by row",
                )
        if len(self._rows) < batch_size:
            raise UsageError(
                f"{len(self._rows)} rows do not fill one batch of {batch_size}",
                "lower batch_size or give more pairs",
            )
        self._batch_size = batch_size
        self._max_tokens = max_query_tokens, max_document_tokens
        self._mixing, self._seed = mixing or MixingConfig(), seed
        self._table: TrainingTable | None = None

    def setup(self, stage: str) -> None:
        """Tokenize with the trained encoder and count the batches.

        Raises:
            UsageError: the batch does not divide among the processes.
        """
        if self._batch_size % self.trainer.world_size:
            raise UsageError(
                f"batch_size={self._batch_size} does not divide among "
                f"{self.trainer.world_size} processes",
                "choose a multiple",
            )
        self._table = self._tokenize(self.trainer.lightning_module.encoder)
        self.num_batches = len(self._rows) // self._batch_size

    def make_pass(self, epoch: int) -> BatchList:
        """The batches of a pass, this process's share of each."""
        table = self._table
        assert table is not None, "setup comes first"
        seed = int(np.random.SeedSequence([self._seed, epoch]).generate_state(1)[0])
        batches = random_batches(len(self._rows), self._batch_size, seed, self.num_batches)
        rank, num_ranks = self.trainer.global_rank, self.trainer.world_size
        return BatchList(
            len(batches),
            lambda step: collate(
                table,
                batches[step],
                self._mixing,
                seed=self._seed,
                step=epoch * self.num_batches + step,
                rank=rank,
                num_ranks=num_ranks,
            ),
            rows=[len(batch) for batch in batches],
        )

    def _tokenize(self, encoder: TextEncoder) -> TrainingTable:
        rows = self._rows
        held = [query for query in rows.queries if find_prompt(query) is not None]
        if held and encoder.prompt("query"):
            raise UsageError(
                f"{len(held):,} queries hold a prompt already, the first is {held[0][:60]!r}: the "
                f"encoder's own, {encoder.prompt('query')!r}, would come before it",
                "take it out of the queries, or train an encoder without a query prompt",
            )
        nothing = np.zeros(0, dtype=np.float32)
        return TrainingTable(
            queries=read_flat(reader_of(encoder, "query", self._max_tokens[0]), rows.queries),
            documents=read_flat(
                reader_of(encoder, "document", self._max_tokens[1]), rows.documents
            ),
            positives=np.array(rows.positives),
            negatives=[np.array(found, dtype=np.int64) for found in rows.negatives],
            relevant=[np.array(sorted(rows.relevant[q])) for q in rows.query_ids],
            in_batch=np.ones(len(rows), dtype=bool),
            soft=[nothing] * len(rows),
        )
