"""One training stage as an object: its settings, its machine, and where models and rows are."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from leafkit.config import DataConfig, StageConfig, TrainSourceConfig
from leafkit.core.errors import UsageError
from leafkit.data.prompts import Example, make_prompt
from leafkit.data.records import Collection
from leafkit.data.training_rows import TrainingRows
from leafkit.embedders.token_reader import Tokenize, read_flat
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.index.vectors import Vectors
from leafkit.models.text_encoder import TextEncoder
from leafkit.train.trainer_options import TrainerOptions
from leafkit.train.world import World

START = "start"  # how mining and soft labels name the stage's own start model
ROLES = ("query", "document")  # all other prompts of a teacher are those of sources


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model under the name that folders and messages use, with what decides about its weights."""

    name: str
    identity: str
    encoder: TextEncoder


@dataclass(slots=True)
class Source:
    """One source of a stage, or its rows of one task: the rows, and what their prompts are made of.

    Attributes:
        name: of the source; of one task of several "SOURCE.TASK".
        config: its task is that of all rows, its weight their share of the source's.
        rows: to train on.
        instruction: of rows that have none of their own.
        template: of the prompt.
        examples: few-shot examples in it.
        example_template: of one.
        is_symmetric: the prompt stands before documents too.
        num_read: rows read, those in the prompt and those dropped later among them.
    """

    name: str
    config: TrainSourceConfig
    rows: TrainingRows
    instruction: str = ""
    template: str = "{query}"
    examples: list[Example] = field(default_factory=list)
    example_template: str = ""
    is_symmetric: bool = False
    num_read: int = 0

    @property
    def prompt(self) -> str:
        """Of rows without an instruction of their own."""
        return self.prompt_of("")

    def prompt_of(self, own_instruction: str) -> str:
        """Of a row, by its own instruction, where it has one."""
        instruction = own_instruction or self.instruction
        return make_prompt(self.template, instruction, self.examples, self.example_template)


@dataclass(frozen=True, slots=True)
class MinedRows:
    """What mining found for a source's rows.

    Attributes:
        negatives: (R, m) positions of documents, best first; -1 where fewer were found.
        kept: (R,) the verdict of the ranking-consistency filter.
    """

    negatives: np.ndarray
    kept: np.ndarray


class Library(Protocol):
    """Where a stage gets what it does not make itself: in memory, or out of a recipe's folder."""

    def identify(self, reference: str) -> str:
        """What decides about a model's weights, without loading it."""

    def load_model(self, reference: str) -> NamedModel:
        """builtin:minilm, model:FOLDER_OR_HUB_ID@REVISION, or stage:NAME of an earlier stage."""

    def keeps(self, reference: str) -> bool:
        """Whether ``load_model`` gives a model that is needed again, and must stay as it is."""

    def read_collection(self, uri: str, limit: int, default_split: str) -> Collection:
        """The collection that a source names."""

    def embed(self, embedder: TransformerEmbedder, name: str, request: EmbedRequest) -> Vectors:
        """(n, D) vectors of texts by a model that is called ``name``."""

    def mine(self, task: StageTask, source: Source, model: NamedModel) -> MinedRows:
        """Hard negatives and filter verdicts of a source's rows."""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed.

    Attributes:
        texts: in order.
        role: whose prompt is put before them.
        max_tokens: where they are cut.
        what: what they are, for messages.
    """

    texts: Sequence[str]
    role: str
    max_tokens: int
    what: str


@dataclass(frozen=True, slots=True)
class StageTask:
    """One stage of a teacher's training.

    Attributes:
        name: of the stage.
        config: its settings.
        data: where texts are cut, what happens to bad rows, how many pseudo-texts there are.
        library: models, rows and vectors.
        device: trained on.
        precision: of the arithmetic.
        world: the processes that take part.
        seed: of everything random.
        pairs: rows of a stage that names no source; None takes ``data.corpus``.
        options: loggers, callbacks, strategy, accumulation.
        tokenize: gives token ids of texts, in memory or out of kept files.
        held: the start model between ``hold_start`` and ``take_start``, by its reference.
    """

    name: str
    config: StageConfig
    data: DataConfig
    library: Library
    device: torch.device
    precision: torch.dtype
    world: World
    seed: int
    pairs: TrainingRows | None = None
    options: TrainerOptions = field(default_factory=TrainerOptions)
    tokenize: Tokenize = read_flat
    held: dict[str, NamedModel] = field(default_factory=dict)

    def load_model(self, reference: str) -> NamedModel:
        """A model of the library; ``start`` is what the stage starts from."""
        resolved = self._resolve(reference)
        return self.held.get(resolved) or self.library.load_model(resolved)

    def hold_start(self) -> TextEncoder:
        """The start model, which whoever asks for it gets until it is taken: it is loaded once."""
        self.held[self.config.init] = self.load_model(START)
        return self.held[self.config.init].encoder

    def take_start(self) -> TextEncoder:
        """The start model, for the caller to change."""
        encoder = self.load_model(START).encoder
        self.held.clear()
        return copy.deepcopy(encoder) if self.library.keeps(self.config.init) else encoder

    def identify(self, reference: str) -> str:
        """What decides about a model's weights."""
        return self.library.identify(self._resolve(reference))

    def embedder(self, encoder: TextEncoder) -> TransformerEmbedder:
        """A model made ready to embed on this task's device."""
        return TransformerEmbedder(encoder, self.device, self.precision)

    def check_divides(self, key: str, size: int) -> None:
        """Refuse a batch that processes cannot share.

        Raises:
            UsageError: it does not divide among them.
        """
        if size % self.world.size:
            raise UsageError(
                f"{key}={size} does not divide among {self.world.size} processes",
                "choose a multiple",
            )

    def _resolve(self, reference: str) -> str:
        return self.config.init if reference == START else reference
