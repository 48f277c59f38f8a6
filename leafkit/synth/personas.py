"""Personas: who a synthetic task is for. More than two hundred of our own writing ship with the
package, in four languages.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from leafkit.config import SYNTH_LANGUAGES
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import UsageError

BUILTIN = Path(__file__).with_name("personas.jsonl")
_REMEDY = 'each line is {"persona": "who it is, in a sentence", "language": "en", "id": "optional"}'


@dataclass(frozen=True, slots=True)
class Persona:
    """A person in one or two sentences, written in the person's own language."""

    id: str
    language: str
    persona: str


def read_personas(source: str) -> list[Persona]:
    """Personas of ``builtin`` or of ``jsonl:PATH``, in the file's order; a row without an id is
    named by its line.

    Raises:
        UsageError: no such source or file, or a line is no persona; the message names the line.
    """
    kind, _, rest = source.partition(":")
    if source != "builtin" and (kind != "jsonl" or not rest):
        raise UsageError(
            f"synth.personas={source!r} is not builtin or jsonl:PATH",
            "name a file of personas: jsonl:my.jsonl",
        )
    path = BUILTIN if source == "builtin" else Path(rest)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as err:
        raise UsageError(
            f"synth.personas={source}: {path.absolute()}: {err.strerror}", "check the path"
        ) from err
    except UnicodeDecodeError as err:
        raise UsageError(
            f"synth.personas={source}: {path} is not UTF-8: {err}", "save it as UTF-8"
        ) from err
    personas: dict[str, Persona] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        persona = _read_line(line, f"{path}:{number}", f"line-{number}")
        if persona.id in personas:
            raise UsageError(
                f"{path}:{number}: the id {persona.id!r} is used twice",
                "give every persona its own id",
            )
        personas[persona.id] = persona
    if not personas:
        raise UsageError(f"synth.personas={source}: {path} holds no persona", _REMEDY)
    return list(personas.values())


def _read_line(line: str, where: str, default_id: str) -> Persona:
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{where}: not JSON: {err}", _REMEDY) from err
    if not isinstance(row, dict):
        raise UsageError(f"{where}: a persona is an object, this is {type(row).__name__}", _REMEDY)
    values = {
        "id": row.get("id", default_id),
        "language": row.get("language"),
        "persona": row.get("persona"),
    }
    for key, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise UsageError(f"{where}: {key!r} is missing, empty or not text", _REMEDY)
    persona = Persona(**{key: str(value).strip() for key, value in values.items()})
    if persona.language not in SYNTH_LANGUAGES:
        known = ", ".join(SYNTH_LANGUAGES)
        raise UsageError(
            f"{where}: the language {persona.language!r} is not one of {known}",
            "change or drop the line",
        )
    return persona


def group_by_language(
    personas: Sequence[Persona], languages: Sequence[str], seed: int
) -> dict[str, list[Persona]]:
    """For each language its personas, shuffled by the seed.

    Raises:
        UsageError: a language has none.
    """
    groups: dict[str, list[Persona]] = {}
    for language in languages:
        found = [p for p in personas if p.language == language]
        if not found:
            raise UsageError(
                f"no persona speaks {language!r}",
                f"add some to synth.personas, or drop {language} from synth.languages",
            )
        random.Random(f"{seed}:personas:{language}").shuffle(found)
        groups[language] = found
    return groups


def hash_personas(personas: Sequence[Persona]) -> str:
    """Identity of a list of personas."""
    return fingerprint([asdict(p) for p in personas])
