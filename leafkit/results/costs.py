"""What encoders, indexes, steps and machines cost."""

from __future__ import annotations

from dataclasses import dataclass

from leafkit.results.interval import Interval


@dataclass(frozen=True, slots=True)
class LatencyRow:
    """Single queries timed one after the other, tokenizer included.

    Attributes:
        encoder: "teacher" or "student".
        queries_per_s: 1 / mean time.
        p50_ms: median time.
        p99_ms: 99% quantile.
        num_queries: timed.
        threads: of the arithmetic.
        dtype: likewise.
        queries_per_s_low: 2.5% quantile of the rate over resampled queries; None where the times of
            single queries were not kept.
        queries_per_s_high: 97.5% quantile, likewise.
    """

    encoder: str
    queries_per_s: float
    p50_ms: float
    p99_ms: float
    num_queries: int
    threads: int
    dtype: str
    queries_per_s_low: float | None = None
    queries_per_s_high: float | None = None


@dataclass(frozen=True, slots=True)
class IndexRow:
    """One index at one setting, asked one encoder's queries.

    Attributes:
        collection: whose documents.
        kind: of the index.
        setting: of the search, in words.
        queries: "teacher" or "student".
        device: where it computed, as torch names its kind: "cpu", "cuda", "npu", "mps".
        faiss: the factory string.
        bytes_per_vector: of the whole serialised index, over its vectors.
        rescore_bytes_per_vector: of the vectors that rescoring reads beside the index.
        build_s: seconds to build.
        build_threads: threads that built it.
        queries_per_s: all queries in one call, the median of ``repetitions``.
        repetitions: timed searches.
        threads: threads that searched.
        recall_at_10: share of the encoder's own exact top ten that is found.
        ndcg_at_10: by the judgments.
        is_cheapest_at_target: the first setting of a sweep that reaches the recall asked for.
    """

    collection: str
    kind: str
    setting: str
    queries: str
    device: str
    faiss: str
    bytes_per_vector: float
    rescore_bytes_per_vector: int
    build_s: float
    build_threads: int
    queries_per_s: float
    repetitions: int
    threads: int
    recall_at_10: Interval
    ndcg_at_10: Interval
    is_cheapest_at_target: bool


@dataclass(frozen=True, slots=True)
class StepTime:
    """A step of the pipeline.

    Attributes:
        name: of the step.
        seconds: wall time that its result took to make, without the steps it had to wait for; of
            one that is up to date in the run that made it.
        status: "done" or "up to date".
        spent_s: wall time that this run spent on it; None where that was not recorded.
        artifact: its folder among the checkpoints; "" where that was not recorded.
        reused: vectors in it that were made for other texts before; None where there are none.
    """

    name: str
    seconds: float
    status: str
    spent_s: float | None = None
    artifact: str = ""
    reused: int | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What figures were measured on.

    Attributes:
        cpu: name of the processor.
        cores: that the system sees.
        threads: of the arithmetic.
        memory_gib: that the system has.
        peak_memory_gib: resident, of the process that measured.
        device: as torch names its kind: "cpu", "cuda", "npu", "mps".
        precision: of the arithmetic.
        accelerator: name of the device, "" on a CPU.
        processes: of the launch.
    """

    cpu: str
    cores: int | None
    threads: int
    memory_gib: float | None
    peak_memory_gib: float
    device: str
    precision: str
    accelerator: str
    processes: int = 1
