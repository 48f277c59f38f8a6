"""What predictions of students are measured on: a corpus with a teacher's vectors out of a finished
run, in its own space and in others.

Shapes: N documents, H held out, A made queries, Q judged queries, D dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from predict_parts.spaces import change_space

SEED = 42
START = "builtin:minilm"
LIMITS = {"pydocs": (64, 56)}  # query and document tokens that its teacher read; else 0 and 256


class Case:
    """A corpus with the teacher's vectors.

    Args:
        checkpoints: of a finished recipe.
        folder: keeps the start model's states.
        fitted: most texts that a student is made of.
    """

    def __init__(self, checkpoints: Path, folder: Path, fitted: int) -> None:
        from leafkit.data.records import Collection
        from leafkit.embedders.precomputed_files import read_store

        self.name = checkpoints.name
        corpora = sorted((checkpoints / "corpora").iterdir())
        if len(corpora) != 1:
            raise SystemExit(f"{checkpoints} holds {len(corpora)} corpora where one is needed")
        self.collection = Collection.load(corpora[0])
        self._tables = [
            (place.name.split("-")[-2], read_store(place)[0])
            for place in sorted((checkpoints / "vectors").iterdir())
        ]
        self.folder, self.fitted, self.checkpoints = folder, fitted, checkpoints
        self.limits = LIMITS.get(self.name, (0, 256))
        documents = self.collection.documents
        self.texts = [document.full_text for document in documents]
        self.documents = self._vectors(self.texts, "document")
        self.judged = self.collection.judged("test")
        self.judged_vectors = self._vectors([query.text for query in self.judged], "query")
        self._choose()

    def _find(self, texts: Sequence[str], role: str) -> tuple[np.ndarray, np.ndarray]:
        """(n,) bool, which texts have a vector, and (n, D) of those; zeros of others."""
        found, out = np.zeros(len(texts), dtype=bool), None
        for of_role, table in self._tables:
            if of_role != role:
                continue
            rows = table.find(texts)
            new = (rows >= 0) & ~found
            if out is None:
                out = np.zeros((len(texts), table.vectors.dim), dtype=np.float32)
            out[new] = table.vectors.take(rows[new])
            found |= new
        if out is None:
            raise SystemExit(f"{self.checkpoints} holds no {role} vectors")
        return found, out

    def _vectors(self, texts: Sequence[str], role: str) -> np.ndarray:
        found, vectors = self._find(texts, role)
        if not found.all():
            raise SystemExit(f"{self.checkpoints}: {int((~found).sum())} {role} texts lack vectors")
        return vectors

    def _choose(self) -> None:
        """What is held out, fitted and asked, as ``make_sample`` does it."""
        from leafkit.data.made_queries import make_queries_of
        from leafkit.pipeline.predict.sample import MOST_ASKED, MOST_HELD_OUT, shuffle_by_hash

        order = shuffle_by_hash(self.texts, SEED)
        count = min(MOST_HELD_OUT, len(order) // 5)
        self.held_out, self.fit = np.sort(order[:count]), order[count:][: self.fitted]
        places = self.held_out.tolist()
        made = make_queries_of([self.collection.documents[p] for p in places], 4000, SEED)
        asked = {query.text for query in self.judged} | set(self.texts)
        made = {text: at for text, at in made.items() if text not in asked}
        has_vector, vectors = self._find(list(made), "query")
        chosen = np.flatnonzero(has_vector)[:MOST_ASKED]
        texts = list(made)
        self.queries = [texts[i] for i in chosen.tolist()]
        self.sources = np.array([places[made[text]] for text in self.queries], dtype=np.int64)
        self.query_vectors = vectors[chosen]

    @property
    def is_whole(self) -> bool:
        """Whether the start model reads every document."""
        return len(self.fit) + len(self.held_out) == len(self.texts)

    @cached_property
    def states(self) -> Mapping[str, np.ndarray]:
        """Of all layers of the start model; read once and kept."""
        place = self.folder / "states" / f"{self.name}-{self.fitted}.npz"
        if not place.is_file():
            self._read_states(place)
        with np.load(place) as kept:
            return {name: kept[name].astype(np.float32) for name in kept.files}

    def _read_states(self, place: Path) -> None:
        import torch

        from leafkit.models.checkpoint import load_encoder
        from leafkit.models.precision import has_bf16_instructions
        from leafkit.pipeline.predict.start_states import StartStates

        # as auto chooses where it is faster; asked of a busy machine, it may choose otherwise
        precision = torch.bfloat16 if has_bf16_instructions() else torch.float32
        reader = StartStates(load_encoder(START), torch.device("cpu"), precision)
        parts = {
            "queries": (self.queries, "query"),
            "judged": ([query.text for query in self.judged], "query"),
            "held_out": ([self.texts[i] for i in self.held_out.tolist()], "document"),
        }
        found = {
            name: reader.read(texts, role, self.limits[role == "document"])
            for name, (texts, role) in parts.items()
        }
        blocks = []
        for start in range(0, len(self.fit), 512):  # each is kept, for a run that is broken off
            block = place.with_suffix(f".{start}.npy")
            block.parent.mkdir(parents=True, exist_ok=True)
            if not block.is_file():
                texts = [self.texts[i] for i in self.fit[start : start + 512].tolist()]
                np.save(block, reader.read(texts, "document", self.limits[1]).astype(np.float16))
            print(f"  {self.name}: {start + 512:,} of {len(self.fit):,} read", flush=True)
            blocks.append(np.load(block))
        kept = {name: array.astype(np.float16) for name, array in found.items()}
        np.savez(place, fit=np.concatenate(blocks), **kept)


class Space:
    """A case in one space."""

    def __init__(self, case: Case, name: str) -> None:
        from leafkit.evaluation.forecast.yardstick import Yardstick, unit

        self.case, self.name = case, name
        documents, queries, judged = change_space(
            name, [case.documents, case.query_vectors, case.judged_vectors], SEED
        )
        self.documents, self.judged = unit(documents), unit(judged)
        self.yardstick = Yardstick(self.documents, case.held_out, case.sources, unit(queries))

    @cached_property
    def judgments(self) -> Any:
        """Of the judged queries."""
        from leafkit.evaluation.metrics import Judgments

        case = self.case
        ids = [document.id for document in case.collection.documents]
        return Judgments([query.id for query in case.judged], ids, case.collection.qrels)

    def ndcg(self, queries: np.ndarray, documents: np.ndarray | None = None) -> np.ndarray:
        """(Q,) nDCG@10."""
        from leafkit.evaluation.metrics import fast_ndcg
        from leafkit.index.exact import search_exact
        from leafkit.index.ranking import exclude_self

        own = np.array(self.case.collection.own_documents("test", "auto"), dtype=np.int64)
        depth = 10 + bool((own >= 0).any())
        found = search_exact(
            queries, self.documents if documents is None else documents, depth, self.judgments.ties
        )
        return fast_ndcg(exclude_self(found, own, 10), self.judgments)

    def retention(self, values: np.ndarray) -> dict[str, float | int]:
        """Share of the teacher's mean."""
        from leafkit.evaluation.bootstrap import Bootstrap

        found = Bootstrap(len(values), 2000, SEED).ratio(values, self.ndcg(self.judged))
        return asdict(found)
