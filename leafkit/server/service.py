"""What answers: a pair, its models in lanes of their own, its documents, and the counters."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from leafkit.core.console import log, progress_bar
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.data.records import clean_text
from leafkit.embedders.count_cut import uncut_lengths
from leafkit.embedders.protocol import Embedder, RefusedText, encode_in_role
from leafkit.pipeline.ladder.router import Router
from leafkit.pipeline.pair import Pair
from leafkit.results.ladder import STUDENT_RUNG, TEACHER_RUNG
from leafkit.server.answers.documents import DocumentVectors
from leafkit.server.bad_request import BadRequest
from leafkit.server.lanes import Lane
from leafkit.server.metrics import Metrics
from leafkit.server.settings import ServerSettings

_BYTES_PER_TOKEN = 4  # about, where a tokenizer is not here
T = TypeVar("T")


@dataclass(slots=True)
class Texts:
    """Texts to embed together.

    Attributes:
        texts: n of them.
        role: query or document.
        param: where they stood in the request, for errors.
        may_cut: whether one that is longer than the model's limit is cut, or refused.
        max_tokens: where they are cut before the model's own limit; 0 is nowhere.
        numbers: of the texts in the request; None where they are all of it, in their order.
        are_listed: whether the request has a list there, or one text.
        lengths: tokens of each, uncut, once they were counted; None where that cannot be known.
    """

    texts: list[str]
    role: str
    param: str
    may_cut: bool = True
    max_tokens: int = 0
    numbers: list[int] | None = None
    are_listed: bool = True
    lengths: list[int] | None = None
    is_counted: bool = False

    def number_of(self, row: int) -> int:
        """Which of the request's texts a row is."""
        return row if self.numbers is None else self.numbers[row]

    def place_of(self, row: int) -> str:
        """Where a row's text stood in the request."""
        return f"{self.param}[{self.number_of(row)}]" if self.are_listed else self.param


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors of texts.

    Attributes:
        vectors: (n, D) float32, of the whole dimension.
        is_unit: whether they are of length one.
        lengths: tokens of each text, uncut, prompt and special tokens included; None where that is
            not known.
        limit: tokens that the model reads of each.
    """

    vectors: np.ndarray
    is_unit: bool
    lengths: list[int] | None
    limit: int

    @property
    def num_tokens(self) -> int:
        """That the model read; 0 where that is not known."""
        return sum(min(length, self.limit) for length in self.lengths or ())

    @property
    def truncated(self) -> list[int] | None:
        """Rows of the texts that were cut; None where that is not known."""
        if self.lengths is None:
            return None
        return [row for row, length in enumerate(self.lengths) if length > self.limit]


class Service:
    """A pair that is being served.

    Args:
        pair: what answers.
        settings: checked ones.
        metrics: counters; None makes some of its own.
        student_documents: (N, D) the student's vectors of the documents, where they are made.
        router: chooses the rung that answers a query, where a promise is held.

    Attributes:
        pair: as given.
        settings: as given.
        metrics: as given.
        router: as given.
        documents: what searches look at; asked in the lane ``search`` alone.
        student: the lane of the student: one request after another.
        teacher: the lane of the teacher: waiting requests together, up to so many tokens.
        search: the lane of searches.
        rungs: the lane of the rungs below the student.
        is_stopping: no more requests will be taken.
        num_given_up: requests that had no answer when the server stopped.
    """

    def __init__(
        self,
        pair: Pair,
        settings: ServerSettings,
        metrics: Metrics | None = None,
        student_documents: np.ndarray | None = None,
        *,
        router: Router | None = None,
    ) -> None:
        self.pair, self.settings, self.router = pair, settings, router
        self.metrics = metrics or Metrics()
        self.documents = DocumentVectors(pair, student_documents)
        self.is_stopping = False
        self.num_given_up = 0
        self._is_teacher_loaded = False
        self._locks: dict[int, threading.Lock] = {}
        limit = settings.requests_per_worker
        self.student: Lane[Texts, Embedded] = Lane(
            "student", lambda items: self._embed(pair.embedder, items), limit=limit
        )
        self.teacher: Lane[Texts, Embedded] = Lane(
            "teacher",
            lambda items: self._embed(self._load_teacher(), items),
            # the other half is for queries, however slow the teacher is
            limit=limit // 2,
            weigh=self._weigh,
            budget=settings.batch_tokens,
        )
        self.search: Lane[Callable[[], Any], Any] = Lane(
            "search", lambda items: [item() for item in items], limit=limit
        )
        self.rungs: Lane[tuple[Embedder, Texts], Embedded] = Lane(
            "rungs",
            lambda items: [self._embed(model, [texts])[0] for model, texts in items],
            limit=limit,
        )

    @property
    def space(self) -> str:
        """Names the space of all vectors here."""
        return self.pair.space.teacher

    @property
    def has_teacher(self) -> bool:
        """Whether documents are embedded here."""
        return self.settings.teacher != "off"

    @property
    def teacher_state(self) -> str:
        """off, lazy (not asked for yet) or loaded."""
        if not self.has_teacher:
            return "off"
        return "loaded" if self._is_teacher_loaded else "lazy"

    @property
    def queues(self) -> dict[str, int]:
        """Requests waiting or at work, by lane."""
        return {lane.name: len(lane) for lane in self._lanes}

    @property
    def _lanes(self) -> tuple[Lane[Any, Any], ...]:
        return self.student, self.teacher, self.search, self.rungs

    def prepare(self) -> None:
        """Load what shall be there before the first request, and warm it up.

        Raises:
            LeafkitError: the teacher is not available, or a model fails.
        """
        self.student.put(Texts(["a first question"], "query", "input")).result()
        if self.router is not None:
            for name, model in self.router.models.items():
                if name != STUDENT_RUNG:
                    self.rungs.put((model, Texts(["a first question"], "query", "input"))).result()
        if self.settings.teacher == "eager":
            self._load_teacher()

    def close(self) -> None:
        """Take no more work; what was taken is done."""
        self.is_stopping = True
        for lane in self._lanes:
            lane.close()

    async def embed(self, texts: Texts, *, by_teacher: bool) -> Embedded:
        """Vectors of texts, by the model of the lane.

        Raises:
            Busy: too many wait for that model.
            BadRequest: a text has no vector, or may not be cut and is too long.
            LeafkitError: the teacher is not available, or a model fails.
        """
        found = await (self.teacher if by_teacher else self.student).ask(texts)
        self.metrics.count_texts(texts.role, len(texts.texts), found.num_tokens)
        return found

    async def embed_at(self, rung: str, texts: Texts) -> Embedded:
        """Vectors of queries at a rung of the router; not counted, for several rungs may be asked.

        Raises:
            Busy, BadRequest, LeafkitError: see ``embed``.
        """
        assert self.router is not None
        assert texts.max_tokens == self.router.max_tokens
        if rung == TEACHER_RUNG:
            return await self.teacher.ask(texts)
        if rung == STUDENT_RUNG:
            return await self.student.ask(texts)
        return await self.rungs.ask((self.router.models[rung], texts))

    async def in_search(self, work: Callable[[], T]) -> T:
        """What a function gives in the lane of searches.

        Raises:
            Busy: too many wait.
            Exception: the function's own.
        """
        found: T = await self.search.ask(work)
        return found

    def _load_teacher(self) -> Embedder:
        try:
            teacher = self.pair.teacher
        except UsageError as err:  # whoever serves may mend it, not the caller of a request
            raise LeafkitError(str(err), err.hint) from err
        self._is_teacher_loaded = True
        return teacher

    def _weigh(self, item: Texts) -> int:
        """Tokens that the teacher will read."""
        model = self._load_teacher()
        with self._lock_of(model):
            _count(model, item)
        if item.lengths is None:
            return sum(len(t.encode()) for t in item.texts) // _BYTES_PER_TOKEN + len(item.texts)
        limit = self._limit_of(model, item)
        return sum(min(length, limit) for length in item.lengths)

    def _limit_of(self, model: Embedder, item: Texts) -> int:
        wanted = self.pair.space.max_tokens if item.role == "document" else item.max_tokens
        return model.space(item.role, wanted or model.max_tokens).max_tokens or model.max_tokens

    def _lock_of(self, model: Embedder) -> threading.Lock:
        """A pair may be its own teacher: one model in two lanes."""
        return self._locks.setdefault(id(model.encoder or model), threading.Lock())

    def _embed(self, model: Embedder, items: Sequence[Texts]) -> list[Embedded | Exception]:
        """A result or an error for each item; items of one role that are cut alike are embedded
        together.
        """
        results: dict[int, Embedded | Exception] = {}
        with self._lock_of(model):
            for i, item in enumerate(items):
                try:
                    self._check(model, item)
                except (BadRequest, LeafkitError) as err:
                    results[i] = err
            alike: dict[tuple[str, int], list[int]] = {}
            for i, item in enumerate(items):
                if i not in results:
                    alike.setdefault((item.role, item.max_tokens), []).append(i)
            for which in alike.values():
                found = self._embed_alike(model, [items[i] for i in which])
                results |= zip(which, found, strict=True)
        return [results[i] for i in range(len(items))]

    def _check(self, model: Embedder, item: Texts) -> None:
        try:
            model.require(item.texts, item.role)
        except LeafkitError as err:
            raise BadRequest(str(err), param=item.param) from err
        _count(model, item)
        if item.may_cut:
            return
        limit = self._limit_of(model, item)
        if item.lengths is None:
            raise BadRequest(
                "truncate=false: this model's tokenizer is not here, so that nobody knows which "
                "texts it cuts",
                param="truncate",
            )
        long = [
            f"{item.place_of(row)} ({length:,})"
            for row, length in enumerate(item.lengths)
            if length > limit
        ]
        if long:
            shown = ", ".join(long[:10]) + (" and others" if len(long) > 10 else "")
            whose = "the promise's" if limit == item.max_tokens else "the model's"
            raise BadRequest(
                f"longer than {whose} {limit:,} tokens, which truncate=false refuses: {shown}",
                param=item.param,
            )

    def _embed_alike(self, model: Embedder, items: Sequence[Texts]) -> list[Embedded | Exception]:
        role, limit = items[0].role, self._limit_of(model, items[0])
        texts = [text for item in items for text in item.texts]
        try:
            vectors = encode_in_role(model, texts, role, max_tokens=limit)
        except RefusedText as err:
            if len(items) > 1:  # each is embedded by itself then
                raise
            number = items[0].number_of(err.number)
            raise RefusedText(number, err.text, err.what, err.hint) from err
        is_unit = model.space(role, limit).normalized
        results: list[Embedded | Exception] = []
        start = 0
        for item in items:
            own = vectors[start : start + len(item.texts)]
            start += len(item.texts)
            is_finite = np.isfinite(own).all(axis=1)
            if is_finite.all():
                results.append(Embedded(own, is_unit, item.lengths, limit))
            else:
                where = item.place_of(int(is_finite.argmin()))
                results.append(
                    LeafkitError(f"the vector of {where} is not finite", "check the model")
                )
        return results


def _count(model: Embedder, item: Texts) -> None:
    if not item.is_counted:
        cleaned = [clean_text(text, Counter()) for text in item.texts]
        item.lengths = uncut_lengths(model, cleaned, item.role)
        item.is_counted = True


def embed_documents(pair: Pair) -> np.ndarray:
    """(N, D) the student's vectors of the pair's documents, in float16 as those of the teacher."""

    model = pair.embedder
    texts = [document.full_text for document in pair.documents]
    log(f"embedding {len(texts):,} documents with the student, for mode=student")
    with progress_bar("student documents", len(texts), "texts") as bar:
        limit = pair.space.max_tokens or model.max_tokens
        vectors = model.embed(texts, "document", limit, bar)
    return vectors.astype(np.float16)
