"""The rungs of a ladder below the recipe's own student, fitted in closed form on the teacher's
stored vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from leafkit.config import LADDER_RUNGS, StudentConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import LADDER
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.core.method import method_of
from leafkit.data.vector_store import hash_texts
from leafkit.embedders.make_embedder import make_embedder
from leafkit.embedders.prefix import whole_dim
from leafkit.embedders.protocol import LocalEmbedder
from leafkit.models.checkpoint import identify_model, load_encoder
from leafkit.models.encoder_protocol import Encoder, read_model, save_model
from leafkit.models.static_encoder import StaticEncoder
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.corpus import Corpus
from leafkit.pipeline.ladder.table import fit_table
from leafkit.pipeline.model_handle import ModelHandle
from leafkit.pipeline.pair_folder import describe_student_space
from leafkit.pipeline.run import Run
from leafkit.pipeline.space_guard import check_student
from leafkit.pipeline.student.start import load_start
from leafkit.pipeline.student.targets import Distillation, Target, TokenLimits
from leafkit.pipeline.student.transformer import distill_transformer

TABLE = LADDER_RUNGS[0]
# settings of the student that a rung reads
_READ = (
    "init_layers",
    "attention",
    "pooling",
    "head_bias",
    "ridge",
    "num_ridge_texts",
    "num_held_out",
)


@dataclass(frozen=True, slots=True)
class RungInputs:
    """What decides about a rung."""

    rung: str
    config: dict[str, Any]  # what a rung reads of the student's settings
    start: str  # identity of the model that it begins as, or takes its tokenizer from
    student: str  # whose vectors of tokens a table starts from
    teacher: str
    corpus: str
    texts: list[int]  # numbers of them, by target
    content: str  # identity of the texts
    seed: int
    precision: str
    tokens: list[int]


def sorted_rungs(names: Sequence[str]) -> list[str]:
    """Different rungs, the cheapest first.

    >>> sorted_rungs(["3l", "table", "3l"])
    ['table', '3l']
    """
    return [name for name in LADDER_RUNGS if name in names]


def spread_layers(count: int, num_kept: int) -> str:
    """Layers to keep, evenly spread and the last among them, as ``student.init_layers`` names them.

    >>> spread_layers(6, 3), spread_layers(12, 2)
    ('2,4,6', '6,12')
    """
    return ",".join(str(-(-count * (i + 1) // num_kept)) for i in range(num_kept))


def choose_layers_of(
    names: Sequence[str], student: Encoder, config: StudentConfig
) -> dict[str, str]:
    """Layers of the start model that each rung keeps; "" for a table.

    Args:
        names: of the rungs.
        student: the recipe's own.
        config: of the student, whose start the rungs take.

    Raises:
        UsageError: a rung is no cheaper than the student, which is one already.
    """
    if isinstance(student, StaticEncoder) and names:
        raise UsageError(
            f"ladder.rungs=[{', '.join(names)}]: the recipe's own student is a table, and nothing "
            "is cheaper",
            "ladder.rungs=[] routes between the table and the teacher",
        )
    found = {}
    for name in names:
        if name == TABLE:
            found[name] = ""
            continue
        assert isinstance(student, TextEncoder)
        wanted = int(name.removesuffix("l"))
        depth = int(student.backbone.config.num_hidden_layers)
        if wanted >= depth:
            raise UsageError(
                f"ladder.rungs: {name} is no rung below a student of {depth} layers",
                "leave it out, or name fewer layers",
            )
        whole = load_encoder(config.init).backbone.config.num_hidden_layers
        found[name] = spread_layers(int(whole), wanted)
    return found


def make_rung(
    run: Run,
    name: str,
    layers: str,
    *,
    student: Encoder,
    teacher: ModelHandle,
    corpus: Corpus,
    targets: Sequence[Target],
) -> Path:
    """A rung's artifact, a student folder below the recipe's ladder/.

    Args:
        run: this run.
        name: of the rung.
        layers: that it keeps of the start; "" for a table.
        student: the recipe's own.
        teacher: whose space it is.
        corpus: that is indexed.
        targets: texts with the teacher's vectors; those that the router learns from are not among
            them.

    Raises:
        UsageError: the table would be too large, or the tokenizer is not a fast one.
        LeafkitError: it cannot be written.
    """
    recipe, folder = run.recipe, run.folder / LADDER / name
    config = rung_config(recipe.student, layers)
    task = Distillation(
        teacher=teacher,
        targets=targets,
        config=config,
        limits=TokenLimits(recipe.data.max_query_tokens, recipe.data.max_document_tokens),
        embed=lambda texts, role, limit, what: teacher.model.embed(texts, role, limit),
        device=run.device,
        precision=run.precision,
        seed=recipe.seed,
    )
    make: Callable[..., Any] = fit_table if name == TABLE else distill_transformer

    def work(metrics: dict[str, Any]) -> Encoder:
        start = load_start(config)
        made: Encoder
        if name == TABLE:
            made = fit_table(start, task, make_embedder(student, run.device, run.precision))
        else:
            made = distill_transformer(start, task).student
        metrics["parameters"] = made.num_parameters()
        return made

    def save(made: Encoder, draft: Path) -> None:
        save_model(
            made,
            draft,
            describe_student_space(
                made,
                teacher.space_id,
                teacher.reference,
                teacher.given_prompts,
                prefix_of=whole_dim(teacher.model),
            ),
        )

    run.step(
        name=f"{LADDER} {name}",
        folder=folder,
        inputs=_inputs(run, name, task, student, corpus=corpus),
        method=method_of(make, load_start, save_model),
        work=work,
        save=save,
    )
    return folder


def _inputs(
    run: Run, name: str, task: Distillation, student: Encoder, *, corpus: Corpus
) -> RungInputs:
    config = task.config
    return RungInputs(
        rung=name,
        config={key: getattr(config, key) for key in _READ},
        start=identify_model(config.init),
        student=student.fingerprint if name == TABLE else "",
        teacher=task.teacher.model.fingerprint,
        corpus=corpus.fingerprint,
        texts=[len(target.texts) for target in task.targets],
        content=fingerprint([[t.role, hash_texts(t.texts).tobytes().hex()] for t in task.targets]),
        seed=task.seed,
        precision=str(run.precision),
        tokens=[task.limits.query, task.limits.document],
    )


def rung_config(student: StudentConfig, layers: str) -> StudentConfig:
    """The settings of a rung: the recipe's own start, some of its layers, a linear head over all of
    their states in closed form.
    """
    return replace(
        student,
        kind="instant",
        init_layers=layers,
        head="linear",
        head_layers="all" if layers else "last",
        token_table=0,
        token_units=0,
        head_steps=0,
        start_weight=0.0,
    )


def open_rung(folder: Path, space: str, dim: int) -> LocalEmbedder:
    """What embeds with a rung, on the CPU.

    Args:
        folder: of its artifact, which is verified already.
        space: of the index.
        dim: of the index.

    Raises:
        LeafkitError: it lives in another space.
    """
    rung = read_model(folder)
    check_student(folder, rung, space, dim)
    if rung.dim != dim:
        raise LeafkitError(
            f"{folder}: a rung of {rung.dim} dimensions for an index of {dim}",
            "leafkit ladder recipe=NAME makes it anew",
        )
    return make_embedder(rung)
