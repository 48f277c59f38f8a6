"""What is measured, as frozen dataclasses with versioned JSON; nothing here computes."""

from leafkit.results.agreement import Agreement
from leafkit.results.certificate import Certificate, RescuedSystem
from leafkit.results.codec import FORMAT, Saved
from leafkit.results.contamination import (
    Contamination,
    ContaminationReport,
    Overlap,
    OverlapExample,
)
from leafkit.results.costs import IndexRow, LatencyRow, Machine, StepTime
from leafkit.results.cut import CutTexts
from leafkit.results.diagnosis import (
    BinaryFigures,
    Diagnosis,
    DiagnosisFigures,
    HeadFigures,
    Quality,
    RankFigures,
)
from leafkit.results.inheritance import GridCell, InheritanceGrid, Verdict
from leafkit.results.interval import Difference, Interval
from leafkit.results.ladder import (
    CurvePoint,
    Ladder,
    LossPredictor,
    PromiseFigures,
    RungFigures,
    TimedOn,
)
from leafkit.results.prediction import (
    FinishedRun,
    FinishedRuns,
    Forecast,
    Prediction,
    ProbeFigures,
    StudentForecast,
)
from leafkit.results.report import (
    CorpusFacts,
    GraphQuality,
    ModelFacts,
    RunReport,
    SpectrumSummary,
    StudentChecks,
    TrainingTexts,
    merge_reports,
)
from leafkit.results.retrieval import (
    CollectionResult,
    EvaluationResult,
    Hit,
    LostQuery,
    MacroFigures,
    QueryScores,
    Sample,
    SystemScores,
    TaskScore,
)
from leafkit.results.table import Table

__all__ = [
    "FORMAT",
    "Agreement",
    "BinaryFigures",
    "Certificate",
    "CollectionResult",
    "Contamination",
    "ContaminationReport",
    "CorpusFacts",
    "CurvePoint",
    "CutTexts",
    "Diagnosis",
    "DiagnosisFigures",
    "Difference",
    "EvaluationResult",
    "FinishedRun",
    "FinishedRuns",
    "Forecast",
    "GraphQuality",
    "GridCell",
    "HeadFigures",
    "Hit",
    "IndexRow",
    "InheritanceGrid",
    "Interval",
    "Ladder",
    "LatencyRow",
    "LossPredictor",
    "LostQuery",
    "Machine",
    "MacroFigures",
    "ModelFacts",
    "Overlap",
    "OverlapExample",
    "Prediction",
    "ProbeFigures",
    "PromiseFigures",
    "Quality",
    "QueryScores",
    "RankFigures",
    "RescuedSystem",
    "RunReport",
    "RungFigures",
    "Sample",
    "Saved",
    "SpectrumSummary",
    "StepTime",
    "StudentChecks",
    "StudentForecast",
    "SystemScores",
    "Table",
    "TaskScore",
    "TimedOn",
    "TrainingTexts",
    "Verdict",
    "merge_reports",
]
