"""A stage's models, rows and vectors in memory: nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.console import progress_bar
from leafkit.core.errors import UsageError
from leafkit.data.records import Collection
from leafkit.data.sources import read_collection
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.index.vectors import Vectors
from leafkit.models.checkpoint import identify_model, load_encoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.teacher.mine import mine_source
from leafkit.pipeline.teacher.task import (
    EmbedRequest,
    MinedRows,
    NamedModel,
    Source,
    StageTask,
)


@dataclass(slots=True)
class MemoryLibrary:
    """Models that were trained in this call, and vectors that were computed in it.

    Every process of a launch computes the same vectors; only a recipe shares the work.

    Attributes:
        data: how sources are read.
        stages: the models of finished stages, by name.
    """

    data: DataConfig
    stages: dict[str, TextEncoder] = field(default_factory=dict)
    _vectors: dict[str, Vectors] = field(default_factory=dict)

    def identify(self, reference: str) -> str:
        """Of a stage its name, which is unique in the call."""
        return reference if reference.startswith("stage:") else identify_model(reference)

    def load_model(self, reference: str) -> NamedModel:
        """A finished stage, or any model that ``load_encoder`` takes.

        Raises:
            UsageError: no stage of that name is finished.
            LeafkitError: the model cannot be had.
        """
        if not reference.startswith("stage:"):
            return NamedModel(reference, self.identify(reference), load_encoder(reference))
        name = reference.removeprefix("stage:")
        if name not in self.stages:
            raise UsageError(
                f"{reference}: no earlier stage has that name",
                f"finished: {', '.join(self.stages) or 'none'}",
            )
        return NamedModel(name, reference, self.stages[name])

    def keeps(self, reference: str) -> bool:
        """The models of finished stages, and no others."""
        return reference.startswith("stage:")

    def read_collection(self, uri: str, limit: int, default_split: str) -> Collection:
        """What a source of a stage holds."""
        return read_collection(uri, self.data, limit, default_split)

    def embed(self, embedder: TransformerEmbedder, name: str, request: EmbedRequest) -> Vectors:
        """Vectors in float32; asked for again they are not computed again."""
        key = fingerprint(
            [
                name,
                embedder.fingerprint,
                embedder.prompt(request.role),
                request.max_tokens,
                hash_texts(request.texts).tobytes().hex(),
            ]
        )
        if key not in self._vectors:
            title = f"{name} vectors of {request.what}"
            with progress_bar(title, len(request.texts), "texts") as bar:
                self._vectors[key] = embedder.embed(
                    request.texts, request.role, request.max_tokens, bar
                )
        return self._vectors[key]

    def mine(self, task: StageTask, source: Source, model: NamedModel) -> MinedRows:
        """Search a source's documents."""
        found = mine_source(task, source, model)
        return MinedRows(found.negatives, found.kept)
