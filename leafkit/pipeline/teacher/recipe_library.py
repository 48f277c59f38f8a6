"""A stage's models, rows and vectors out of a recipe's folder, each computed once and kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from leafkit.config import to_plain
from leafkit.core.artifact import fingerprint, open_artifact, read_manifest
from leafkit.core.checkpoint_layout import MINED, MINED_ARRAYS_FILE, MINED_ROWS_FILE
from leafkit.core.method import method_of
from leafkit.data.records import Collection
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.index.vectors import Vectors
from leafkit.mining.hard_negatives import Mined
from leafkit.models.checkpoint import identify_model, load_encoder, read_encoder
from leafkit.pipeline.corpus import load_corpus
from leafkit.pipeline.embed import load_vectors
from leafkit.pipeline.run import Run, folder_name
from leafkit.pipeline.teacher.embed_rows import document_prompts, prompts_of
from leafkit.pipeline.teacher.mine import mine_source, prepare_search
from leafkit.pipeline.teacher.task import (
    EmbedRequest,
    MinedRows,
    NamedModel,
    Source,
    StageTask,
)

_ARRAYS = ("negatives", "ranks", "scores", "positive_ranks", "positive_scores", "kept")


@dataclass(frozen=True, slots=True)
class MiningInputs:
    """What decides about the hard negatives of one source."""

    rows: str  # fingerprint of the rows
    prompts: str  # fingerprint of what the model puts before their texts
    model: str  # identity of the mining model
    mining: dict[str, Any]
    seed: int
    tokens: list[int]  # cuts of queries and documents
    precision: str


class RecipeLibrary:
    """Everything is computed once and kept as an artifact.

    Args:
        run: of the recipe.

    Attributes:
        mined: folders of the rows that were mined, in order.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.mined: list[Path] = []

    def identify(self, reference: str) -> str:
        """What decides about a model's weights, without loading it."""
        if reference.startswith("stage:"):
            return read_manifest(self._stage_folder(reference)).fingerprint()
        return identify_model(reference)

    def load_model(self, reference: str) -> NamedModel:
        """A stage of this recipe, or any model that ``load_encoder`` takes.

        Raises:
            LeafkitError: it is not there, or damaged.
        """
        identity = self.identify(reference)
        if reference.startswith("stage:"):
            folder = self._stage_folder(reference)
            open_artifact(folder, folder.name)
            name = f"{self._run.recipe.name}-{folder.name}"
            return NamedModel(name, identity, read_encoder(folder))
        name = folder_name(reference.rpartition("@")[0] or reference)
        return NamedModel(name, identity, load_encoder(reference))

    def keeps(self, reference: str) -> bool:
        """None: each is read anew."""
        return False

    def read_collection(self, uri: str, limit: int, default_split: str) -> Collection:
        """The corpus artifact of a source."""
        return load_corpus(self._run, uri, limit, default_split).collection

    def embed(self, embedder: TransformerEmbedder, name: str, request: EmbedRequest) -> Vectors:
        """The vector store of the texts."""
        return load_vectors(
            self._run,
            embedder,
            name,
            request.texts,
            role=request.role,
            max_tokens=request.max_tokens,
            what=request.what,
        )

    def mine(self, task: StageTask, source: Source, model: NamedModel) -> MinedRows:
        """Mine a source's rows, as an artifact that can be read on its own."""
        rows, data = source.rows, task.data
        folder = self._run.folder / MINED / task.name / source.name
        columns = [
            rows.queries,
            rows.query_ids,
            rows.documents,
            rows.positives,
            rows.negatives,
            [sorted(r) for r in rows.relevant],
        ]
        # for its prompts alone: in float32 where it is, nothing is copied
        embedder = TransformerEmbedder(model.encoder, model.encoder.device, torch.float32)
        prompt_of = prompts_of(embedder, source)
        prompts = [
            [prompt_of(own) for own in rows.instructions],
            sorted(set(document_prompts(embedder, source, prompt_of))),
        ]
        inputs = MiningInputs(
            rows=fingerprint(columns),
            prompts=fingerprint(prompts),
            model=model.identity,
            mining=to_plain(task.config.mining),
            seed=task.seed,
            tokens=[data.max_query_tokens, data.max_document_tokens],
            precision=str(task.precision),
        )

        def work(metrics: dict[str, Any]) -> Callable[[], Mined]:
            search = prepare_search(task, source, model)

            def search_once() -> Mined:
                found = search()
                metrics.update(rows=len(rows), kept=int(found.kept.sum()), counts=found.counts)
                return found

            return search_once

        def save(search: Callable[[], Mined], draft: Path) -> None:
            found = search()  # by the first process alone
            np.savez(draft / MINED_ARRAYS_FILE, **{name: getattr(found, name) for name in _ARRAYS})
            _write_rows(source, found, draft / MINED_ROWS_FILE)

        self._run.step(
            name=f"mine {task.name} {source.name}",
            folder=folder,
            inputs=inputs,
            method=method_of(mine_source, StageTask),
            work=work,
            save=save,
            on_every_process=True,
        )
        self.mined.append(folder)
        with np.load(folder / MINED_ARRAYS_FILE, allow_pickle=False) as arrays:
            return MinedRows(arrays["negatives"], arrays["kept"])

    def _stage_folder(self, reference: str) -> Path:
        return self._run.folder / reference.removeprefix("stage:")


def _write_rows(source: Source, found: Mined, path: Path) -> None:
    """Rows as jsonl: query with its instruction and task, positive with its rank and score,
    negatives with theirs.
    """
    rows = source.rows
    with path.open("w", encoding="utf-8") as stream:
        for i in np.flatnonzero(found.kept).tolist():
            here = [k for k in range(found.negatives.shape[1]) if found.negatives[i, k] >= 0]
            row = {
                "query": rows.queries[i],
                "instruction": rows.instructions[i],
                "task": source.config.task,
                "positive": rows.documents[rows.positives[i]],
                "positive_rank": int(found.positive_ranks[i]),
                "positive_score": float(found.positive_scores[i]),
                "negatives": [rows.documents[found.negatives[i, k]] for k in here],
                "negative_ranks": [int(found.ranks[i, k]) for k in here],
                "negative_scores": [float(found.scores[i, k]) for k in here],
                "split": "train",
            }
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
