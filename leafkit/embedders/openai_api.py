"""An OpenAI-compatible embeddings endpoint as an Embedder: texts go out, vectors come back,
nothing else is known of it.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import numpy as np

from leafkit.config import EmbeddingsConfig
from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.console import Bar, log
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.openai_client import (
    Client,
    EndlessAnswer,
    Refusal,
    TransientError,
    backoff,
    base_url_of,
    read_address,
)
from leafkit.core.process.stop_signals import cancel_on_stop
from leafkit.core.truncate import truncate_then_normalize
from leafkit.data.vector_store import Space
from leafkit.embedders.openai_answer import BrokenAnswer, decode_vector, order_rows
from leafkit.embedders.protocol import NO_LIMIT, EmbedderBase, RefusedText

SECTION = "embeddings.endpoint"  # of the recipe
# embedded once per endpoint, to learn its dimension and to know it again
PROBE = "Which function inverts a sparse matrix?"
MAX_PROBE_BYTES = 4_000_000  # an endless answer ends here, before the dimension is known
BYTES_PER_NUMBER = 40  # of an answer; Python writes a float in at most 25
_OVERHEAD_BYTES = 1_000_000  # of an answer beside its numbers
_UNIT_TOLERANCE = 0.01  # lengths this near to one are taken for one: float16 and bf16 round
_MIN_PROBE_COSINE = (
    0.99  # of the probe's vector, then and now; servers' batching and rounding leave more than this
)
_TEXT_STATUSES = frozenset({400, 413, 422})  # may be about one text, or about the number of texts
_Format = Literal["base64", "float"]
_ODD_REMEDY = "see what the endpoint does with this text; leave it out if it must"


@dataclass(frozen=True, slots=True)
class Learned:
    """What the first request told: dimension, whether vectors have length one, and the probe's
    vector.
    """

    dim: int
    normalized: bool
    probe: list[float]


class OpenAIEmbedder(EmbedderBase):
    """A model behind an endpoint; an Embedder.

    Texts are sent whole: what the endpoint cuts, it cuts by its own rule.

    Args:
        model: as the endpoint knows it.
        config: how it is reached.
        prompts: text put before inputs, by role.
        mrl_dims: Matryoshka dimensions; empty where none are known.
        memory: folder of a file that keeps what the first request told: later runs need no request
            to name the space, and know it when another model answers under the old name.

    Attributes:
        config: as given.

    Raises:
        UsageError: the address is none.
    """

    def __init__(
        self,
        model: str,
        config: EmbeddingsConfig,
        prompts: Mapping[str, str],
        mrl_dims: Sequence[int] = (),
        *,
        memory: Path | None = None,
    ) -> None:
        self._model, self.config = model, config
        self._prompts = {role: text for role, text in prompts.items() if text}
        parts = urlsplit(base_url_of(config.endpoint, SECTION))
        host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
        self._fingerprint = fingerprint(
            [model, host, config.dimensions, sorted(self._prompts.items())]
        )
        self._mrl_dims = tuple(sorted(set(mrl_dims), reverse=True))
        self._memory = memory / f"endpoint-{self.fingerprint}.json" if memory is not None else None
        self._learned: Learned | None = None
        self._was_probed = self._was_shown = False  # by this process
        self._format: _Format = "base64"
        self._texts_per_request = config.texts_per_request

    @property
    def fingerprint(self) -> str:
        """Of model, host, dimensions and prompts; what stands behind the name cannot be seen."""
        return self._fingerprint

    @property
    def mrl_dims(self) -> tuple[int, ...]:
        """Matryoshka dimensions, largest first; empty where none are known."""
        return self._mrl_dims

    @property
    def max_tokens(self) -> int:
        """Texts are sent whole."""
        return NO_LIMIT

    @property
    def dim(self) -> int:
        """D, the dimension of the vectors; the first time it is asked for, a probe is sent."""
        return self._know().dim

    def prompt(self, role: str) -> str:
        """Text put before an input of this role."""
        return self._prompts.get(role, "")

    def space(self, role: str, max_tokens: int) -> Space:
        """The space that vectors of this role are in; ``max_tokens`` is not part of it, since texts
        are sent whole.
        """
        known = self._know()
        return Space(
            self.fingerprint,
            known.dim,
            self.prompt(role),
            max_tokens=0,
            pooling="",
            normalized=known.normalized,
        )

    def embed(
        self, texts: Sequence[str], role: str, max_tokens: int, bar: Bar | None = None
    ) -> np.ndarray:
        """(n, D) float32 vectors of texts, in their order; of length one where the endpoint's are.

        Raises:
            RefusedText: the endpoint does not take a text, or gives no usable vector for it.
            LeafkitError: key, model or request are refused, the endpoint is gone, or its vectors
                are not this model's.
        """
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        prompt, size = self.prompt(role), self._texts_per_request
        pending = deque(range(0, len(texts), size))
        found: dict[int, np.ndarray] = {}

        async def work(client: Client) -> None:
            while pending:
                start = pending.popleft()
                batch = [prompt + text for text in texts[start : start + size]]
                found[start] = await self._vectors(client, batch, start)
                if bar is not None:
                    bar.advance(len(batch))

        async def work_together(client: Client) -> None:
            if not self._was_probed:
                await self._probe(client)
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.config.endpoint.max_concurrency, len(pending))):
                        group.create_task(work(client))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None  # the first one ended the others

        self._run(work_together)
        return np.concatenate([found[start] for start in sorted(found)])

    def _know(self) -> Learned:
        """What the first request told, in this run or an earlier one."""
        if self._learned is None and self._recall() is None:
            self._run(self._probe)
        assert self._learned is not None
        return self._learned

    def _recall(self) -> Learned | None:
        """What an earlier run was told."""
        if self._memory is None or not self._memory.is_file():
            return None
        try:
            found = json.loads(self._memory.read_text(encoding="utf-8"))
            learned = Learned(
                int(found["dim"]), bool(found["normalized"]), [float(x) for x in found["probe"]]
            )
            if len(learned.probe) != learned.dim:
                raise ValueError(f"{len(learned.probe)} numbers for {learned.dim} dimensions")
        except (ValueError, KeyError, TypeError) as err:
            raise LeafkitError(
                f"{self._memory} is corrupt: {err}", "delete it: one request makes it again"
            ) from err
        return self._learn(learned)

    def _learn(self, learned: Learned) -> Learned:
        if any(not 1 <= dim <= learned.dim for dim in self.mrl_dims):
            raise LeafkitError(
                f"teacher.mrl_dims={list(self.mrl_dims)} are not between 1 and the {learned.dim} "
                f"of {self._model}",
                "name dimensions that its vectors have",
            )
        self._learned = learned
        return learned

    async def _probe(self, client: Client) -> None:
        """Embed one text; the first vector ever is kept, a later one must be the same."""
        known = self._learned or self._recall()
        try:
            probe = (await self._ask(client, [PROBE], 0))[0]
        except Refusal as err:
            if err.status not in _TEXT_STATUSES or self._format == "float":
                raise
            self._format = "float"  # base64 is the smaller one, but not every server knows it
            probe = (await self._ask(client, [PROBE], 0))[0]
        self._was_probed = True
        length = float(np.linalg.norm(probe))
        if known is not None:
            before = np.array(known.probe, dtype=np.float32)
            if before @ probe < _MIN_PROBE_COSINE * length * float(np.linalg.norm(before)):
                raise LeafkitError(
                    f"{self._model} gives another vector for {PROBE!r} than it did at first: "
                    f"another model answers under the"
                    " old name, and its vectors are of another space",
                    f"bring the old model back; if the change is meant, delete {self._memory} "
                    f"and the vectors beside it",
                )
            return
        if not length:
            raise LeafkitError(
                f"{self._model} gives a vector of zeros for {PROBE!r}", "check the endpoint"
            )
        learned = self._learn(
            Learned(len(probe), abs(length - 1) <= _UNIT_TOLERANCE, probe.tolist())
        )
        if self._memory is not None:
            with explain_write_errors(self._memory):
                self._memory.parent.mkdir(parents=True, exist_ok=True)
            write_durably(
                self._memory, json.dumps({"model": self._model} | asdict(learned)).encode()
            )

    def _run(self, work: Callable[[Client], Awaitable[None]]) -> None:
        address = read_address(self.config.endpoint, SECTION)
        if not self._was_shown:
            self._was_shown = True
            key = f", the key in {address.key_env} with them" if address.has_key else ""
            log(f"  texts go to {address.shown}{key}")
        client = Client(
            address,
            self._model,
            "the model's name",
            self.config.endpoint.timeout_s,
            why=f"endpoint:{self._model}",
        )

        async def run() -> None:
            with cancel_on_stop():
                try:
                    await work(client)
                finally:
                    await client.close()

        asyncio.run(run())

    async def _vectors(self, client: Client, texts: list[str], first: int) -> np.ndarray:
        """Vectors of some texts; where they are refused together, half of them at a time, down to
        the text that is refused.
        """
        if len(texts) <= self._texts_per_request:
            try:
                return await self._ask(client, texts, first)
            except Refusal as err:
                if err.status not in _TEXT_STATUSES:
                    raise
                if len(texts) == 1:
                    raise RefusedText(
                        first,
                        texts[0],
                        f"{err}; it has {len(texts[0]):,} characters",
                        "shorten such texts, or let the server cut them "
                        "(text-embeddings-inference: --auto-truncate)",
                    ) from None
        half = (len(texts) + 1) // 2
        head, tail = (
            await self._vectors(client, texts[:half], first),
            await self._vectors(client, texts[half:], first + half),
        )
        # each half is taken: the whole was too much
        self._texts_per_request = min(self._texts_per_request, half)
        return np.concatenate([head, tail])

    async def _ask(self, client: Client, texts: list[str], first: int) -> np.ndarray:
        """Vectors of one request's texts, with retries."""
        options: dict[str, Any] = (
            {"dimensions": self.config.dimensions} if self.config.dimensions else {}
        )
        dim = self._learned.dim if self._learned is not None else 0
        max_bytes = (
            _OVERHEAD_BYTES + len(texts) * dim * BYTES_PER_NUMBER if dim else MAX_PROBE_BYTES
        )
        reason = ""
        for attempt in range(self.config.endpoint.max_retries + 1):
            wait_s = backoff(attempt, self.config.endpoint.backoff_s)
            try:
                request = client.openai.embeddings.with_streaming_response.create(
                    model=self._model, input=texts, encoding_format=self._format, **options
                )
                return self._read(await client.receive(request, max_bytes), texts, first)
            except EndlessAnswer:
                reason = "endless answer"
            except BrokenAnswer as err:
                reason = str(err)
            except TransientError as err:
                reason, wait_s = str(err), wait_s if err.wait_s is None else err.wait_s
            if attempt < self.config.endpoint.max_retries:
                await asyncio.sleep(wait_s)
        raise LeafkitError(
            f"{client.shown} gave no vectors of {self._model!r} in "
            f"{self.config.endpoint.max_retries + 1} tries; the last: {reason}",
            "see that it runs and is not overloaded (embeddings.endpoint.max_concurrency, "
            "embeddings.texts_per_request, embeddings.endpoint.timeout_s); finished shards of "
            "vectors are kept, the same command continues",
        )

    def _read(self, content: bytes, texts: list[str], first: int) -> np.ndarray:
        """(n, D) float32 of an answer, in the order of its texts."""
        wanted = self._learned.dim if self._learned is not None else self.config.dimensions
        out: list[np.ndarray] = []
        for number, value in enumerate(order_rows(content, len(texts), self._model)):
            vector = decode_vector(value)
            if vector is None:
                raise RefusedText(
                    first + number,
                    texts[number],
                    f"{self._model} gives no vector for it",
                    _ODD_REMEDY,
                )
            if not np.isfinite(vector).all():
                raise RefusedText(
                    first + number,
                    texts[number],
                    f"{self._model} gives a vector that is not finite",
                    _ODD_REMEDY,
                )
            wanted = wanted or len(vector)
            if len(vector) != wanted or not wanted:
                raise LeafkitError(
                    f"{self._model} gives a vector of {len(vector)} dimensions where {wanted} "
                    f"were expected",
                    "another model answers, or one that does not take embeddings.dimensions; "
                    "vectors of two models never mix",
                )
            out.append(vector)
        vectors = np.stack(out)
        empty = np.flatnonzero(~vectors.any(axis=1))
        if len(empty):
            number = int(empty[0])
            what = f"{self._model} gives a vector of zeros for it"
            raise RefusedText(first + number, texts[number], what, _ODD_REMEDY)
        if self._learned is None or not self._learned.normalized:
            return vectors
        odd = np.flatnonzero(np.abs(np.linalg.norm(vectors, axis=1) - 1) > _UNIT_TOLERANCE)
        if len(odd):
            number = int(odd[0])
            what = (
                f"{self._model} gives a vector of length {np.linalg.norm(vectors[number]):.3g}, "
                f"where it normalises others"
            )
            raise RefusedText(first + number, texts[number], what, _ODD_REMEDY)
        return truncate_then_normalize(vectors)
