"""Training without the texts that a student is measured on."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from leafkit.data.records import same_text
from leafkit.index.vectors import ChosenRows
from leafkit.pipeline.student.targets import Target
from leafkit.pipeline.student.text_groups import TextGroup

Texts = TypeVar("Texts", TextGroup, Target)


def leave_out(targets: Sequence[Texts], texts: AbstractSet[str]) -> list[Texts]:
    """The targets, or groups that have no vectors yet, without the texts that training shall not
    see; vectors stay where they are.

    A query whose vector is that of a document which is left out goes with it.

    Args:
        targets: the first one is the index, whose positions ``sources`` count.
        texts: to leave out, and what differs from one of them in case and spaces only.
    """
    if not texts:
        return list(targets)
    left_out = {same_text(text) for text in texts}
    kept: list[Texts] = []
    # where each document of the index is afterwards, -1 for one that is left out
    places = np.full(len(targets[0].texts), -1)
    for target in targets:
        chosen = [
            i
            for i, text in enumerate(target.texts)
            if same_text(text) not in left_out
            and (not target.sources or places[target.sources[i]] >= 0)
        ]
        if target is targets[0]:
            places[chosen] = np.arange(len(chosen))
        if len(chosen) == len(target.texts) and not target.sources:
            kept.append(target)
        elif chosen:
            changes: dict[str, Any] = {
                "texts": [target.texts[i] for i in chosen],
                "sources": tuple(int(places[target.sources[i]]) for i in chosen if target.sources),
            }
            if isinstance(target, Target):
                rows = np.array(chosen, dtype=np.int64)
                changes["vectors"] = ChosenRows(target.vectors, rows)
            kept.append(replace(target, **changes))
    return kept


def relevant_sources(targets: Sequence[TextGroup | Target]) -> dict[str, dict[int, int]]:
    """Of each query that has the vector of the document that it was made of, that document as the
    relevant one: grades by position in the index, by text.
    """
    return {
        text: {place: 1}
        for target in targets
        for text, place in zip(target.texts, target.sources, strict=False)
    }
