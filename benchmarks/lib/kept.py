"""What a command keeps in its checkpoints folder, compared with what an undisturbed run kept."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# what is the same in every run, to the bit: texts, vectors, models, losses, figures by query
_PATTERNS = (
    "corpora/*/*.jsonl",
    "vectors/*/*",
    "*/index/*",
    "*/student/**/*",
    "*/tune/**/*",
    "measured/*/per_query.parquet",
    "*/bench/per_query.parquet",
    "*/inherit/grid.json",
)
# files in these folders that hold times
_WITH_TIMES = {"manifest.json", ".verified.json", "made.json", "README.md"}
# what a run may leave out, or leave unfinished where it is never written again: what files looked
# like, and how long a run took that was killed
_MAY_LACK = re.compile(r"\.hashes\.json|\.verified\.json|made\.json|\.made\.json\..*\.tmp")
# softmax takes no notice of it, so that its gradient is rounding alone, which Adam makes steps of
_WITHOUT_EFFECT = "key.bias"


def differences(whole: Path, found: Path) -> list[str]:
    """Files that two checkpoints folders do not both have, and those that are not the same to the
    bit though every run should make them so; in words.
    """
    names, others = _names(whole), _names(found)
    told = [f"{name} is missing" for name in sorted(names - others)]
    told += [f"{name} is left over" for name in sorted(others - names)]
    here, there = _hashes(whole), _hashes(found)
    both = sorted(here.keys() & there.keys())
    return told + [f"{name} has other bits" for name in both if here[name] != there[name]]


def _names(root: Path) -> set[str]:
    found = (path for path in root.rglob("*") if not _MAY_LACK.fullmatch(path.name))
    return {path.relative_to(root).as_posix() for path in found}


def _hashes(root: Path) -> dict[str, str]:
    """sha256 by name."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in _compared(root)
    }


def _compared(root: Path) -> Iterator[Path]:
    for pattern in _PATTERNS:
        for path in sorted(root.glob(pattern)):
            if path.is_file() and path.name not in _WITH_TIMES:
                yield path


def largest_differences(whole: Path, found: Path) -> dict[str, float]:
    """Between two trainings that rounding may set apart: "weights", the largest one of a weight,
    and "losses", the largest one of a loss as a share of it. Infinite where one has more files,
    weights or losses than the other, and where one is NaN, in one of them or in both.
    """
    from safetensors.numpy import load_file

    largest = {"weights": 0.0, "losses": 0.0}
    for kind, pattern in (("weights", "*.safetensors"), ("losses", "losses.json")):
        names = {p.relative_to(whole) for p in whole.rglob(pattern)}
        if names != {p.relative_to(found) for p in found.rglob(pattern)} or not names:
            largest[kind] = float("inf")
            continue
        for name in names:
            if kind == "losses":
                pairs = [
                    tuple(np.array(json.loads((r / name).read_text())) for r in (whole, found))
                ]
            else:
                one, other = load_file(whole / name), load_file(found / name)
                shared = one.keys() & other.keys()
                pairs = [(one[k], other[k]) for k in shared if _WITHOUT_EFFECT not in k]
                if one.keys() != other.keys():
                    largest[kind] = float("inf")
            for a, b in pairs:
                if a.shape != b.shape:
                    largest[kind] = float("inf")
                    continue
                largest[kind] = max(largest[kind], _apart(a, b, is_share=kind == "losses"))
    return largest


def _apart(a: np.ndarray, b: np.ndarray, *, is_share: bool) -> float:
    """The largest difference of two arrays of one shape; a comparison with NaN is always false, so
    that a maximum over it would be lost.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        apart = np.abs(a - b) / (np.abs(a) if is_share else 1)
    apart = np.where(np.isfinite(apart), apart, np.inf)
    return float(np.where(a == b, 0, apart).max(initial=0))
