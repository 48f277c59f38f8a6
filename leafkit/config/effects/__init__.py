"""Which keys of a recipe count in which command, and with which other keys."""

from leafkit.config.effects.conditions import find_missing
from leafkit.config.effects.keys import (
    EFFECTS,
    OF_A_RUN,
    find_idle,
    find_useless,
    has_effect,
    key_of,
    refuse,
    refuse_of_graphs,
    refuse_useless,
)

__all__ = [
    "EFFECTS",
    "OF_A_RUN",
    "find_idle",
    "find_missing",
    "find_useless",
    "has_effect",
    "key_of",
    "refuse",
    "refuse_of_graphs",
    "refuse_useless",
]
