"""What every kind of index has to say of itself. A new kind is one subclass, a place in
``leafkit.index.kinds.registry.KINDS`` and a name in ``INDEX_KINDS`` of the configuration.

Documents have length one and the inner product ranks them, so that the order is that of the cosine
and of the Euclidean distance.

Shapes: N documents, Q queries, D dimensions, k results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import faiss
import numpy as np

from leafkit.config import IndexConfig
from leafkit.index.ranking import Ranking
from leafkit.index.vectors import Vectors

# documents that train each cluster or codeword, where there are so many; faiss takes 39 to 256
TRAIN_PER_CLUSTER = 64
FEW_PER_CLUSTER = 39  # below it faiss warns


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an index cannot be built.

    Attributes:
        text: in words.
        names_kinds: the sentence begins with the kinds that it is about, else with a key.
    """

    text: str
    names_kinds: bool = False


class IndexKind:
    """A flat index of floats, and what the other kinds change of it.

    Attributes:
        name: as in ``bench.indexes.kinds``.
        parameter: what is swept when it is searched; "" where nothing is.
        faiss_parameter: faiss's own name of it.
        faiss_class: of the index that faiss makes.
        needs: faiss's class without which it is left out; "" where every faiss has it.
        is_binary: documents are kept as bits.
        has_gpu_form: faiss can copy it to a GPU.
        has_pq_tables: it is searched through look-up tables of product quantisation.
        is_serial: its build is repeatable with one thread alone.
    """

    name: ClassVar[str] = "flat"
    parameter: ClassVar[str] = ""
    faiss_parameter: ClassVar[str] = ""
    faiss_class: ClassVar[str] = "IndexFlatIP"
    needs: ClassVar[str] = ""
    is_binary: ClassVar[bool] = False
    has_gpu_form: ClassVar[bool] = False
    has_pq_tables: ClassVar[bool] = False
    is_serial: ClassVar[bool] = False

    def factory(self, config: IndexConfig, num_documents: int, dim: int) -> str:
        """faiss's own description of the index, for ``index_factory``."""
        return "Flat"

    def settings(self, config: IndexConfig, num_documents: int) -> list[int]:
        """Values of ``parameter``; [0] where nothing is swept."""
        return [0]

    def num_clusters(self, config: IndexConfig, num_documents: int) -> int:
        """Clusters or codewords to train, 0 for none."""
        return 0

    def problems(self, config: IndexConfig, num_documents: int, dim: int) -> list[Problem]:
        """Why it cannot be built of N documents of D dimensions; nothing where it can."""
        return []

    def warnings(self, config: IndexConfig, num_documents: int) -> list[str]:
        """What is cut short or too few, though it can be built."""
        return []

    def make(self, factory: str, dim: int) -> Any:
        """An empty faiss index."""
        return faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)

    def clusterings(self, index: Any) -> list[Any]:
        """The k-means runs of its training, whose seeds are set."""
        return []

    def train(self, index: Any, vectors: np.ndarray, seed: int) -> None:
        """Train with our seed, and without faiss's warnings on standard error: ``warnings`` has
        said what is too few.
        """
        for clustering in self.clusterings(index):
            clustering.seed, clustering.min_points_per_centroid = seed % 2**31, 1
        index.train(vectors)

    def add(self, index: Any, documents: np.ndarray) -> None:
        """Take in (n, D) float32 documents."""
        index.add(documents)

    def search(
        self,
        index: Any,
        queries: np.ndarray,
        k: int,
        *,
        setting: int,
        on_gpu: bool = False,
        documents: Vectors | None = None,
    ) -> Ranking:
        """The best k documents of each query.

        Args:
            index: trained and filled; its search parameter is left at ``setting``.
            queries: (Q, D) float32.
            k: at most N.
            setting: one of ``settings``.
            on_gpu: whether the index lies on a GPU.
            documents: (N, D) what the index was built of, for a kind that reads them again.

        Raises:
            ValueError: documents are needed and missing.
        """
        if self.faiss_parameter:
            space = faiss.GpuParameterSpace() if on_gpu else faiss.ParameterSpace()
            space.set_index_parameter(index, self.faiss_parameter, setting)
        scores, positions = index.search(queries, k)
        return Ranking(positions, scores)
