"""A whole recipe: its own keys and the sections of its components."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from leafkit.config.data import DataConfig
from leafkit.config.evaluation import BenchConfig, InheritConfig, LadderConfig
from leafkit.config.fields import choice, flag, number, section, text, texts
from leafkit.config.stage import StageConfig
from leafkit.config.student import StudentConfig
from leafkit.config.synth import SynthConfig
from leafkit.config.teacher import EmbedConfig, EmbeddingsConfig, TeacherConfig
from leafkit.config.trainer import TrainerConfig
from leafkit.core.devices import KINDS

DEVICES = ("auto", *KINDS)
PRECISIONS = ("auto", "float32", "bf16")


@dataclass(frozen=True)
class Recipe:
    """A whole run."""

    name: str = text("", "The recipe's name; its artifacts are under checkpoints/NAME.")
    seed: int = number(42, "Of everything random.", low=0, high=2**32 - 1)
    checkpoints: str = text("checkpoints", "Folder that holds all artifacts.")
    device: str = choice("auto", "auto takes cuda, then npu, then mps, then cpu.", DEVICES)
    precision: str = choice(
        "auto",
        "Of the arithmetic; auto takes bf16 where a short probe finds it faster, and stays with "
        "what it chose first in a checkpoints folder.",
        PRECISIONS,
    )
    force: bool = flag(False, "Run steps again although their inputs have not changed.")
    dry_run: bool = flag(
        False,
        "Every step of teach or distill on tiny random weights of the same architectures, a few "
        "texts and steps; distill says what the models count at full size.",
    )
    allow_hosts: list[str] = texts(
        [],
        "Hosts that endpoints named in the recipe file may be asked at; this machine, and an "
        "address on the command line, need no word. A recipe file cannot say so.",
        is_consent=True,
    )
    data: DataConfig = section(DataConfig, "The corpus and other texts.")
    teacher: TeacherConfig = section(TeacherConfig, "The model that embeds the documents.")
    embeddings: EmbeddingsConfig = section(EmbeddingsConfig, "How endpoint:MODEL is asked.")
    embed: EmbedConfig = section(EmbedConfig, "Who computes vectors.")
    stages: dict[str, StageConfig] = section(dict, "The teacher's training, in this order.")
    synth: SynthConfig = section(SynthConfig, "Synthetic training rows.")
    student: StudentConfig = section(StudentConfig, "The student and its distillation.")
    trainer: TrainerConfig = section(TrainerConfig, "Passed through to Lightning.")
    bench: BenchConfig = section(BenchConfig, "The retrieval benchmark.")
    inherit: InheritConfig = section(InheritConfig, "What the student keeps of the teacher.")
    ladder: LadderConfig = section(LadderConfig, "Several encoders on one index.")


def to_plain(value: Any) -> Any:
    """Nested dataclasses as dicts and lists of numbers and strings."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value
