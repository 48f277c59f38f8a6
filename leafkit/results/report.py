"""Everything that is said of a run: its recipe, machine, models, losses, figures and times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from leafkit.results.codec import Saved
from leafkit.results.costs import Machine, StepTime
from leafkit.results.cut import CutTexts
from leafkit.results.diagnosis import Diagnosis
from leafkit.results.inheritance import InheritanceGrid
from leafkit.results.interval import Interval
from leafkit.results.retrieval import EvaluationResult
from leafkit.results.upgrade import upgrade_interval, upgrade_report


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Size, cost and interface of a model.

    Attributes:
        name: of the model.
        parameters: number of weights; None of a model that is not loaded here.
        dim: of its vectors.
        mrl_dims: Matryoshka dimensions.
        flops_per_token: of a forward pass; None of a model that is not loaded here.
        prompts: by role.
        head_layers: whose hidden states its last layer reads; None where that is the last layer
            alone.
        token_table: dimensions of the mean token vector that it reads beside them; None for none.
        token_units: of a layer over tokens before the mean; None for none.
    """

    name: str
    parameters: int | None
    dim: int
    mrl_dims: tuple[int, ...]
    flops_per_token: float | None
    prompts: Mapping[str, str]
    head_layers: tuple[int, ...] | None = None
    token_table: int | None = None
    token_units: int | None = None

    @property
    def is_stock(self) -> bool:
        """Whether sentence-transformers has modules for its head."""
        return self.head_layers is None and self.token_table is None


@dataclass(frozen=True, slots=True)
class SpectrumSummary:
    """What the student's width lets it express, measured before training.

    Attributes:
        rank: of its output map.
        variance_kept: share of the variance of the teacher's vectors that a map of this rank can
            keep.
        ridge_cosine: mean cosine to the teacher at the closed-form start.
        num_texts: that the start was fitted to, and the variance measured on.
        num_held_out: other texts, on which the cosine was measured; 0 where it is that of the texts
            fitted to, and None where that was not recorded.
    """

    rank: int
    variance_kept: float
    ridge_cosine: float
    num_texts: int
    num_held_out: int | None = None


@dataclass(frozen=True, slots=True)
class StudentChecks:
    """A student's start and end on texts that trained nothing.

    Attributes:
        texts: what they are, "queries" say.
        num_texts: of them.
        ridge: strength of the closed-form start.
        fitted_to: texts that it was fitted to; "" of a student without a head, which starts as its
            model came.
        start_cosine: mean cosine to the teacher's vectors at the start.
        start_overlap: share of the teacher's ten nearest documents that the start finds among the
            teacher's vectors.
        cosine: of the student that is kept.
        overlap: likewise.
        kept_after: batches after which it was the best; 0 is the start.
        num_batches: of the training, as planned; 0 for a student without one.
        num_done: of them; None in a report of an earlier version, which did all.
        num_judged: texts with judgments; 0 where too few have any.
        start_ndcg: nDCG@10 of these among the teacher's vectors, at the start; None without them.
        ndcg: of the student that is kept.
        head_steps: that the last layer took on scores after the closed form; the start is what
            they led to.
        begun_as: what the start was, in words, of a student that is neither; "" of the others.
    """

    texts: str
    num_texts: int
    ridge: float
    fitted_to: str
    start_cosine: float
    start_overlap: float
    cosine: float
    overlap: float
    kept_after: int
    num_batches: int
    num_done: int | None = None
    num_judged: int = 0
    start_ndcg: float | None = None
    ndcg: float | None = None
    head_steps: int = 0
    begun_as: str = ""

    @property
    def start_name(self) -> str:
        """What the student was before training, in words."""
        if self.begun_as:
            return self.begun_as
        return "the closed form" if self.fitted_to else "the start as it came"

    @property
    def ended_early(self) -> bool:
        """Whether checks ended the training before its plan."""
        return self.num_done is not None and self.num_done < self.num_batches

    @property
    def is_enough_at_start(self) -> bool:
        """Whether the start left nothing to train for."""
        return self.ended_early and self.num_done == 0


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """A collection that was read.

    Attributes:
        name: of the collection.
        num_documents: kept.
        queries: number by split.
        counts: what was dropped or changed on reading, by reason.
    """

    name: str
    num_documents: int
    queries: Mapping[str, int]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class TrainingTexts:
    """Texts that a model was trained on.

    Attributes:
        model: "student" or "teacher".
        name: of the texts, or of the source that they are from.
        role: "documents", "queries" or "rows".
        number: how many; None where that was not counted.
    """

    model: str
    name: str
    role: str
    number: int | None = None


@dataclass(frozen=True, slots=True)
class GraphQuality(Saved):
    """What the student's exported graphs cost, as in quality.json.

    Attributes:
        losses: nDCG@10 of each graph's queries minus the model's own on the teacher's documents, by
            the graph's precision.
    """

    what = "quality of exported graphs"
    made_by = "leafkit export recipe=NAME"

    losses: Mapping[str, Interval]

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Format 1 had the precisions at the top."""
        return {"losses": {name: upgrade_interval(c, c["num_queries"]) for name, c in data.items()}}


@dataclass(frozen=True, slots=True)
class RunReport(Saved):
    """What report.json holds, or bench.json, inherit.json and diagnosis.json of runs that measured
    only.

    Attributes:
        name: of the recipe.
        command: that was run.
        created: UTC time, ISO 8601.
        commit: git commit of the code, "" outside a checkout.
        recipe: resolved, as plain data.
        versions: of the packages that decide about numbers.
        machine: it ran on.
        steps: and their times.
        corpora: that were read.
        cuts: what the models did not read of texts that are longer than their limits; of texts that
            no model cut too.
        corpora: that were read: the student's own, and those that were measured on.
        training: what student and teacher were trained on, where that is known.
        base_model: id of the student's start model on the Hugging Face hub; "" where it has none.
        datasets: ids of training data on the hub.
        languages: of the texts, as ISO 639-1 has them; empty where they are not known.
        measured_at: UTC time of the benchmark, ISO 8601; "" where it was not recorded.
        measured_on: the machine of the benchmark; None where it was not recorded.
        teacher: the model documents are embedded with.
        student: the model queries are embedded with.
        spectrum: what the student's width lets it express.
        checks: the student's start and end on held-out texts; None where none were held out.
        losses: loss of every step, by stage.
        bench: retrieval, tasks, indexes, latency.
        inheritance: truncation and quantisation.
        diagnosis: of the teacher before training.
    """

    what = "report"
    made_by = "leafkit distill, bench or inherit recipe=NAME"

    name: str
    command: str
    created: str
    commit: str
    recipe: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Machine
    steps: tuple[StepTime, ...] = ()
    corpora: tuple[CorpusFacts, ...] = ()
    cuts: tuple[CutTexts, ...] = ()
    training: tuple[TrainingTexts, ...] = ()
    base_model: str = ""
    datasets: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    measured_at: str = ""
    measured_on: Machine | None = None
    teacher: ModelFacts | None = None
    student: ModelFacts | None = None
    spectrum: SpectrumSummary | None = None
    checks: StudentChecks | None = None
    losses: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    bench: EvaluationResult | None = None
    inheritance: InheritanceGrid | None = None
    diagnosis: Diagnosis | None = None

    @classmethod
    def upgrade(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        """Format 1 called the machine hardware and the grid inherit."""
        return upgrade_report(data)


def merge_reports(reports: Sequence[RunReport]) -> RunReport:
    """One report with the parts of all; where several have the same part, the first one's counts.

    Raises:
        ValueError: there is no report.
    """
    if not reports:
        raise ValueError("no report to merge")
    parts = {
        f.name: next((v for r in reports if (v := getattr(r, f.name))), getattr(reports[0], f.name))
        for f in fields(RunReport)
    }
    return RunReport(**parts)
