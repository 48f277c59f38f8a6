"""The words of a recipe that make what was forecast, on the start model that was probed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from leafkit.config import StaticConfig, StudentConfig
from leafkit.config.load import load_recipe
from leafkit.models.checkpoint import load_encoder
from leafkit.models.prune_layers import choose_layers, find_layers
from leafkit.models.text_encoder import TextEncoder
from leafkit.pipeline.predict.start_states import PRUNED
from leafkit.pipeline.student.start import shape_start
from leafkit.results.prediction import ALL_LAYERS, STATIC, TRAINED

_INSTANT = ("student.kind=instant", "student.head_steps=0")
_TRAINED_RECIPE = "own-index"
_OF_ALL = ("init", "dim")  # keys of the student that every kind reads
_OF_START = ("attention", "pooling")


@dataclass(frozen=True, slots=True)
class StudentWords:
    """Words for each kind of student.

    Attributes:
        config: that the probes were made with.
        layers: numbers of the layers that ``config.init_layers`` keeps; none where it keeps all.
    """

    config: StudentConfig
    layers: Sequence[int] = ()

    def of(self, kind: str, num_texts: int) -> str:
        """What makes a kind of student.

        Args:
            kind: of the student.
            num_texts: that it may be fitted to. A closed form takes ``num_ridge_texts`` of each
                origin, so that a corpus of more has to say so.
        """
        return shlex.join(self._words(kind, num_texts))

    def _words(self, kind: str, num_texts: int) -> Iterator[str]:
        if kind == STATIC:
            yield "student.kind=static"
            yield from self._changed(_OF_ALL)
            for declared in fields(StaticConfig):
                value = getattr(self.config.static, declared.name)
                if value != declared.default:
                    yield f"student.static.{declared.name}={value}"
            return
        if kind == TRAINED:
            yield from (f"recipe={_TRAINED_RECIPE}", "student.minutes=10")
        else:
            yield from _INSTANT
        if kind in PRUNED:
            first = self.layers[: PRUNED[kind]]
            yield f"student.init_layers={','.join(map(str, first)) or f'first:{PRUNED[kind]}'}"
        elif self.config.init_layers:
            yield f"student.init_layers={self.config.init_layers}"
        if kind == ALL_LAYERS:
            yield "student.head_layers=all"
        yield from self._changed((*_OF_ALL, *_OF_START))
        # closed forms go with the recipe of the prediction, or with one of no such key
        known = min(StudentConfig().num_ridge_texts, self.config.num_ridge_texts)
        if kind == TRAINED:
            known = load_recipe(_TRAINED_RECIPE).student.num_ridge_texts
        if num_texts > known:
            yield f"student.num_ridge_texts={num_texts}"

    def _changed(self, keys: Sequence[str]) -> Iterator[str]:
        plain = StudentConfig()
        for key in keys:
            value = getattr(self.config, key)
            if value != getattr(plain, key):
                yield f"student.{key}={value}"


def load_named_start(config: StudentConfig) -> tuple[TextEncoder, StudentWords]:
    """The model that students begin as, shaped as the recipe says, and the words for them.

    Raises:
        UsageError: it has no such layers, or cannot be given that attention or pooling.
        LeafkitError: it cannot be had.
    """
    whole = load_encoder(config.init)
    layers: Sequence[int] = ()
    if config.init_layers:
        layers = choose_layers(config.init_layers, find_layers(whole.backbone)[1])
    return shape_start(whole, config, config.init), StudentWords(config, layers)
