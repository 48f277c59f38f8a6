"""A ladder made ready to serve: its rungs, and whether a rung's answer is enough for a promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from leafkit.core.artifact import Manifest, open_artifact, read_manifest
from leafkit.core.checkpoint_layout import INDEX, LADDER, LADDER_FILE, ROUTER_FOLDER
from leafkit.core.errors import LeafkitError, UsageError
from leafkit.embedders.protocol import Embedder
from leafkit.evaluation.routing.predict import predict_losses, predictor_of
from leafkit.evaluation.routing.signals import Visit, read_signals
from leafkit.pipeline.ladder.asked import FEWEST
from leafkit.pipeline.ladder.rungs import open_rung
from leafkit.pipeline.ladder.visits import describe_search, graph_of
from leafkit.pipeline.pair import Pair
from leafkit.pipeline.space_guard import check_space
from leafkit.results import Ladder, LossPredictor, PromiseFigures
from leafkit.results.agreement import SEEN
from leafkit.results.ladder import STUDENT_RUNG, TEACHER_RUNG

_ANEW = "leafkit ladder recipe=NAME makes it anew"


@dataclass(frozen=True, slots=True)
class Router:
    """Chooses the rung that answers a query.

    Attributes:
        ladder: its figures.
        promise: that is held.
        models: of the rungs of the route but the teacher, by name.
    """

    ladder: Ladder
    promise: PromiseFigures
    models: Mapping[str, Embedder]
    predictors: Mapping[str, LossPredictor]

    @property
    def route(self) -> tuple[str, ...]:
        """Names of the rungs that are asked, in order; the teacher is the last."""
        return self.ladder.route

    @property
    def max_tokens(self) -> int:
        """That queries are cut at, as those were that calibrated; 0 takes each model's own."""
        return self.ladder.max_query_tokens

    @property
    def verification(self) -> str:
        """What the promise rests on, see ``Ladder.verification_of``."""
        return self.ladder.verification_of(self.promise)

    def are_enough(
        self, rung: str, texts: Sequence[str], visit: Visit, previous: Visit | None
    ) -> np.ndarray:
        """(Q,) whether queries may stop at a rung.

        Args:
            rung: of the route.
            texts: Q queries.
            visit: of the queries at the rung.
            previous: of the queries at the rung before it; None at the first.
        """
        if rung == self.route[-1]:
            return np.ones(len(texts), dtype=bool)
        predicted = predict_losses(self.predictors[rung], read_signals(texts, visit, previous))
        assert self.promise.threshold is not None
        found: np.ndarray = predicted <= self.promise.threshold
        return found


def open_router(folder: Path, pair: Pair, promise: float, *, is_unverified: bool = False) -> Router:
    """The router in a recipe's folder, for one of its promises.

    Args:
        folder: of the recipe.
        pair: opened from it, with the index that the ladder was calibrated on.
        promise: share of the teacher's nDCG@10.
        is_unverified: open one, too, that the queries that verify refute, or that was calibrated
            on what the student has seen in training.

    Raises:
        UsageError: there is no ladder, the promise was not calibrated, is not held by less than the
            teacher alone or is refuted, or the pair's index is another one.
        LeafkitError: the ladder is damaged, or of another student, index or space; or the teacher
            is an endpoint that is not the one it was calibrated with.
    """
    place = folder / LADDER / ROUTER_FOLDER
    if not place.is_dir():
        raise UsageError(
            f"promise={promise:g}: {folder} has no ladder",
            "leafkit ladder recipe=NAME makes one of a finished recipe",
        )
    manifest = open_artifact(place, f"{LADDER} {ROUTER_FOLDER}")
    ladder = Ladder.load(place / LADDER_FILE)
    _check_is_current(folder, manifest, ladder, pair)
    figures = _choose_promise(ladder, promise, is_unverified=is_unverified)
    kind, setting = describe_search(pair)
    if kind != ladder.index:
        raise UsageError(
            f"promise={promise:g} was calibrated on index={ladder.index}, and index={kind} is "
            "served",
            f"index={ladder.index}, or leafkit ladder recipe=NAME ladder.index={kind}",
        )
    if setting != ladder.setting:
        raise LeafkitError(
            f"promise={promise:g} was calibrated on index={kind} built and searched with "
            f"{ladder.setting}, and {setting} is served",
            _ANEW,
        )
    pair.check_endpoint()  # here and not at the first query that climbs to it
    models: dict[str, Embedder] = {}
    for name in ladder.route[:-1]:
        if name == STUDENT_RUNG:
            models[name] = pair.embedder
            continue
        rung_folder = folder / LADDER / name
        open_artifact(rung_folder, f"{LADDER} {name}")
        models[name] = open_rung(rung_folder, pair.space.teacher, pair.dim)
        if models[name].fingerprint != ladder.rung(name).fingerprint:
            raise LeafkitError(
                f"{rung_folder} is another model than the one that {place} was calibrated with",
                _ANEW,
            )
    return Router(ladder, figures, models, predictor_of(ladder.predictors, ladder.route))


def _choose_promise(ladder: Ladder, promise: float, *, is_unverified: bool) -> PromiseFigures:
    """The figures of a promise that may be served.

    Raises:
        UsageError: it may not; the hint names those that may, and what they cost.
    """
    told = f"promise={promise:g}"
    one = next((one for one in ladder.promises if abs(one.promise - promise) < 1e-9), None)
    if one is None:
        others = ", ".join(f"{one.promise:g}" for one in ladder.promises)
        raise UsageError(
            f"{told} was not calibrated: {others} were",
            f"{ladder.offers()}; ladder.promises=[{promise:g}] of leafkit ladder calibrates "
            "another",
        )
    if not one.is_held:
        raise UsageError(
            f"{told} is held by the teacher alone on {ladder.collection}", ladder.offers()
        )
    if is_unverified or ladder.is_servable(one):
        return one
    if ladder.training == SEEN:
        raise UsageError(
            f"{told} was calibrated on {ladder.asked_with} that the student has seen in training, "
            "and says nothing of other queries",
            f"queries that train nothing, {FEWEST} at least, calibrate one; unverified=true serves "
            "this one, and its answers say what it rests on",
        )
    raise UsageError(
        f"{told} is refuted: of {ladder.num_verification:,} queries that calibrated nothing "
        f"{one.kept.percent()} is kept",
        f"{ladder.offers()}; unverified=true serves this one, and its answers say that it is "
        "refuted",
    )


def _check_is_current(folder: Path, manifest: Manifest, ladder: Ladder, pair: Pair) -> None:
    """Refuse a ladder that was calibrated with another student, index or space.

    Raises:
        LeafkitError: it was.
    """
    check_space(str(folder / LADDER), ladder.space, pair.space.teacher)
    wanted = {
        "student": pair.student.fingerprint,
        "index": read_manifest(folder / INDEX).fingerprint(),
        "graph": graph_of(folder, pair),
    }
    words = {
        "student": "an earlier student",
        "index": "other documents",
        "graph": "the student in another form (leafkit export has been run since, or onnxruntime "
        "is missing)",
    }
    for key, value in wanted.items():
        if manifest.inputs.get(key) != value:
            raise LeafkitError(
                f"{folder / LADDER} was calibrated with {words[key]}: its promises say nothing of "
                "what is there now",
                _ANEW,
            )
    assert ladder.route[-1] == TEACHER_RUNG
