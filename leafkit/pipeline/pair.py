"""The pair: a frozen teacher for documents and a small student for queries, in one vector space."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import overload

import numpy as np

from leafkit.core.console import warn
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.printable import printable
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.records import Collection, Document
from leafkit.data.vector_store import Space
from leafkit.embedders.kept_endpoint import KeptEndpoint
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.protocol import Embedder, encode_in_role
from leafkit.index.build import VectorIndex
from leafkit.index.exact import search_exact
from leafkit.index.ranking import Ranking
from leafkit.index.search import search_index
from leafkit.models.encoder_protocol import Encoder
from leafkit.pipeline.adapted import Adapted
from leafkit.pipeline.hits import Hits, SearchHit
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.pair_folder import save_parts
from leafkit.pipeline.space_guard import another_dimension, check_space
from leafkit.results.retention import Retention


class Pair(Adapted):
    """A frozen teacher for documents and a small student for queries, in one vector space.

    ``leafkit.distill`` and ``leafkit.load_pair`` make pairs. There is no bare ``encode``: queries
    and documents are embedded by different models with different prompts, so the role is said.

    Args:
        student: embeds queries.
        collection: the documents, in the order of ``vectors``; its judged queries, where it has
            some, are what the pair is measured on.
        vectors: (N, D) of the documents, from the teacher.
        space: that they are in.
        embedder: gives the student's query vectors.
        teacher: embeds documents, or opens what does; None where it is not available.
        reference: how a recipe names the teacher.
        index: finds documents approximately; None searches all of them.
        judged: finds the collection with judged queries where ``collection`` has none.
        retention: where it was measured before.
        teacher_prompts: by role, those that the teacher was given in place of its files'.
        prefix_of: the teacher's whole dimension, where the pair lives in its first dimensions;
            else 0.
        endpoint: that the teacher is asked at; None for other teachers, or where it is not known.

    Attributes:
        student: as given.
        documents: in the order of the vectors.
        vectors: as given.
        space: as given.
        reference: as given.
        retention: what was measured last; None where nothing was.
        teacher_prompts: as given.
        prefix_of: as given.
        endpoint: as given.

    Raises:
        LeafkitError: student, vectors and documents do not fit.

    Examples:
        >>> import leafkit
        >>> pair = leafkit.distill(
        ...     "builtin:minilm",
        ...     texts=["Invert a sparse matrix.", "Bake bread from rye."],
        ...     config=leafkit.StudentConfig(kind="instant"),
        ...     num_pseudo_texts=400,
        ... )
        >>> pair.encode_query("matrix").shape, pair.encode_query(["a", "b"], dim=64).shape
        ((384,), (2, 64))
        >>> pair.search("how to invert a matrix", k=1)[0].text
        'Invert a sparse matrix.'
    """

    def __init__(
        self,
        student: Encoder,
        collection: Collection,
        vectors: np.ndarray,
        space: Space,
        *,
        embedder: Embedder,
        teacher: ModelHandle | Callable[[], ModelHandle] | None = None,
        reference: str = "",
        index: VectorIndex | None = None,
        judged: Callable[[], Collection | None] | None = None,
        retention: Retention | None = None,
        teacher_prompts: Mapping[str, str] | None = None,
        prefix_of: int = 0,
        endpoint: KeptEndpoint | None = None,
    ) -> None:
        if len(vectors) != len(collection.documents):
            raise LeafkitError(
                f"{len(vectors)} vectors of {len(collection.documents)} documents",
                "give one vector for each, in order",
            )
        if student.dim != space.dim:
            raise another_dimension(student.dim, space.dim)
        self.student, self.vectors, self.space = student, vectors, space
        self.documents: Sequence[Document] = collection.documents
        self.reference, self.retention = reference, retention
        self.teacher_prompts: Mapping[str, str] = dict(teacher_prompts or {})
        self.prefix_of, self.endpoint = prefix_of, endpoint
        self._collection, self._judged = collection, judged
        self._embedder, self._teacher, self._index = embedder, teacher, index
        self._matrix: tuple[int, np.ndarray] | None = None
        self._warned: set[int] = set()

    @property
    def name(self) -> str:
        """Of the documents' collection."""
        return self._collection.name

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors."""
        return self.space.dim

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first; empty where none are known."""
        return self.student.spec.mrl_dims

    @property
    def index(self) -> VectorIndex | None:
        """What finds documents approximately; None where all of them are searched."""
        return self._index

    @property
    def embedder(self) -> Embedder:
        """What gives the student's vectors."""
        return self._embedder

    @property
    def teacher(self) -> Embedder:
        """What embeds documents; loaded when it is first asked for.

        Raises:
            LeafkitError: it is not available, or is not the teacher of these documents.
        """
        if self._teacher is None:
            raise LeafkitError(
                f"the teacher of these documents ({self.reference or 'unknown'}) is not available",
                "name it: leafkit.load_pair(FOLDER, teacher='model:FOLDER')",
            )
        if not isinstance(self._teacher, ModelHandle):
            opened = self._teacher()
            if opened.declared != self.space.teacher:
                check_space(opened.reference, opened.space_id, self.space.teacher)
            model = opened.model
            if model.dim == self.prefix_of:
                model = PrefixEmbedder(model, self.dim)
            if model.dim != self.dim:
                raise another_dimension(self.dim, model.dim)
            self._teacher = replace(opened, model=model)
        return self._teacher.model

    def check_endpoint(self) -> None:
        """Refuse an endpoint that is not the teacher's, or that the user did not name, before
        anything is sent: its space is known without.

        Raises:
            LeafkitError: it is one.
        """
        if self.reference.startswith("endpoint:") and callable(self._teacher):
            self._teacher()

    @property
    def collection(self) -> Collection:
        """The documents with the judged queries that the pair is measured on.

        Raises:
            LeafkitError: there are no judged queries.
        """
        if not self._collection.qrels and self._judged is not None:
            self._collection = self._judged() or self._collection
            self._judged = None
        if not self._collection.qrels:
            raise LeafkitError(
                f"{self.name} comes without judged queries, so nothing can be measured on it",
                "name a judged collection: 'beir:FOLDER', or a leafkit.Collection with qrels",
            )
        return self._collection

    def encode_query(self, texts: str | Sequence[str], dim: int | None = None) -> np.ndarray:
        """Vectors of queries, by the student, the query prompt included.

        Args:
            texts: one text or several, without prompt.
            dim: cut to this dimension, then normalized again where the model normalizes.

        Returns:
            (D,) float32 of one text, (n, D) of several.

        Raises:
            UsageError: ``texts`` is not text, or the dimension is out of range.
        """
        vectors = encode_in_role(self._embedder, texts, "query", dim)
        self._check_matryoshka(dim)
        return vectors

    def encode_document(self, texts: str | Sequence[str], dim: int | None = None) -> np.ndarray:
        """Vectors of documents, by the teacher, the document prompt included; texts are cut where
        those of the index were.

        Args:
            texts: one text or several; a title stands before its text, with a space between.
            dim: cut to this dimension, then normalized again where the model normalizes.

        Returns:
            (D,) float32 of one text, (n, D) of several.

        Raises:
            UsageError: ``texts`` is not text, or the dimension is out of range.
            LeafkitError: the teacher is not available, or has no vector of a text.
        """
        limit = self.space.max_tokens or None
        vectors = encode_in_role(self.teacher, texts, "document", dim, max_tokens=limit)
        self._check_matryoshka(dim)
        return vectors

    def _check_matryoshka(self, dim: int | None) -> None:
        if dim in (None, self.dim, *self.mrl_dims) or dim in self._warned:
            return
        self._warned.add(int(dim or 0))
        known = ", ".join(map(str, self.mrl_dims)) or "none"
        warn(f"dim={dim} is not a Matryoshka dimension of this teacher (those are: {known})")

    @overload
    def search(self, questions: str, k: int = 5, dim: int | None = None) -> Hits: ...

    @overload
    def search(
        self, questions: list[str] | tuple[str, ...], k: int = 5, dim: int | None = None
    ) -> list[Hits]: ...

    def search(
        self, questions: str | Sequence[str], k: int = 5, dim: int | None = None
    ) -> Hits | list[Hits]:
        """The documents nearest to the student's vectors of questions.

        Args:
            questions: one or several.
            k: documents for each; all where there are fewer.
            dim: vectors are cut to this dimension.

        Returns:
            ``Hits`` of one question, a list of them for several.

        Raises:
            UsageError: a question is empty, ``k`` is below 1, or the dimension is out of range or
                not that of the index.
        """
        asked = [questions] if isinstance(questions, str) else list(questions)
        if any(isinstance(question, str) and not question.strip() for question in asked):
            raise UsageError("the question is empty", 'pair.search("your question")')
        if type(k) is not int or k < 1:
            raise UsageError(f"k={k!r} is not a positive whole number", "k=5")
        started_s = time.perf_counter()
        queries = self.encode_query(asked, dim)
        embedded_s = time.perf_counter()
        ranking = self._rank(queries, k, dim)
        searched_s = time.perf_counter()
        count = max(1, len(asked))
        hits = [
            Hits(
                question,
                tuple(
                    # an index may look at fewer documents than were asked for
                    self._hit(int(place), float(score))
                    for place, score in zip(places, scores, strict=True)
                    if place >= 0
                ),
                len(self.documents),
                embed_ms=1e3 * (embedded_s - started_s) / count,
                search_ms=1e3 * (searched_s - embedded_s) / count,
            )
            for question, places, scores in zip(
                asked, ranking.positions, ranking.scores, strict=True
            )
        ]
        return hits[0] if isinstance(questions, str) else hits

    def _hit(self, position: int, score: float) -> SearchHit:
        document = self.documents[position]
        return SearchHit(document.id, score, document.full_text)

    def _rank(self, queries: np.ndarray, k: int, dim: int | None) -> Ranking:
        if self._index is None:
            return search_exact(queries, self.document_matrix(dim), k)
        if dim not in (None, self.dim):
            raise UsageError(
                f"dim={dim}: the index holds vectors of {self.dim} dimensions",
                "load the pair with index='flat' to search at other dimensions",
            )
        setting = self._index.plan.settings[-1]
        return search_index(self._index, queries, k, setting, documents=self.vectors)

    def document_matrix(self, dim: int | None = None) -> np.ndarray:
        """(N, dim) float32 vectors of the documents, cut to ``dim``; the last one made is kept."""
        wanted = dim or self.dim
        if self._matrix is None or self._matrix[0] != wanted:
            vectors = np.asarray(self.vectors, dtype=np.float32)
            if wanted < self.dim:
                vectors = (
                    truncate_then_normalize(vectors, wanted)
                    if self.space.normalized
                    else np.ascontiguousarray(vectors[:, :wanted])
                )
            self._matrix = wanted, vectors
        return self._matrix[1]

    def save(self, folder: str | Path) -> None:
        """Write the pair to a folder that ``leafkit.load_pair`` and ``leafkit search`` read:
        student/, a model folder of sentence-transformers modules, and index/, the documents with
        their float16 vectors. The teacher is named, not copied.

        Raises:
            LeafkitError: something else is there, or the folder cannot be written.
        """
        retention = self.retention
        save_parts(
            Path(folder),
            self.student,
            self._collection,
            self.vectors,
            space=self.space,
            reference=self.reference,
            teacher_prompts=self.teacher_prompts,
            prefix_of=self.prefix_of,
            endpoint=self.endpoint,
            retention={}
            if retention is None
            else {"measured_on": retention.measured_on, "intervals": retention.intervals},
        )

    def describe(self) -> dict[str, str]:
        """The pair in words, by what they are about."""
        dims = f" (Matryoshka {', '.join(map(str, self.mrl_dims))})" if self.mrl_dims else ""
        first = f", the first of the teacher's {self.prefix_of:,}" if self.prefix_of else ""
        return {
            "student": f"{self.student.num_parameters():,} parameters",
            "teacher": printable(self.reference) or "unknown",
            "documents": f"{len(self.documents):,} in {printable(self.name)}",
            "dimensions": f"{self.dim:,}{first}{dims}",
            "space": self.space.teacher,
            "retention": printable(
                str(self.retention or "not measured: leafkit.evaluate(pair, ...)")
            ),
        }

    def __repr__(self) -> str:
        lines = [f"  {what:10} {text}" for what, text in self.describe().items()]
        return "\n".join(["Pair", *lines])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{what}</th><td>{escape(text)}</td></tr>"
            for what, text in self.describe().items()
        )
        return f"<table><caption>Pair</caption><tbody>{rows}</tbody></table>"
