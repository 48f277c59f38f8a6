"""Student and teacher as one sentence-transformers model: its module Router sends queries through
the one and documents through the other, as LEAF's own -asym releases and pyNIFE's
``load_as_router`` do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from leafkit.core.checkpoint_layout import CARD_FILE
from leafkit.core.file_hashes import read_sha256
from leafkit.exporters.card_of_teacher import make_pair_card
from leafkit.exporters.hub import check_hub, check_teacher, write_student, write_teacher
from leafkit.exporters.license_text import write_license
from leafkit.exporters.source import ExportSource
from leafkit.models.checkpoint import PROMPTS_FILE
from leafkit.models.folder import read_json, write_json

_ROUTES = {"query": "student", "document": "teacher"}  # and the folder of its model
_WEIGHTS = "*.safetensors"


def check_pair(source: ExportSource) -> None:
    """Refuse a pair of which either model has no folder.

    Raises:
        LeafkitError: see ``check_hub`` and ``check_teacher``.
    """
    check_hub(source)
    check_teacher(source)


def export_pair(source: ExportSource, folder: Path) -> dict[str, float]:
    """Write both models, each whole in a folder of its own, and the Router over them.

    A text without a role is refused there, as it is in leafkit: there is no default route.

    Returns:
        By role, the smallest cosine of what was read again with the model.

    Raises:
        LeafkitError: see ``export_hub`` and ``export_teacher``.
    """
    teacher = source.teacher()
    cosines = {
        "query": write_student(source, folder / _ROUTES["query"]),
        "document": write_teacher(source, folder / _ROUTES["document"]),
    }
    types: dict[str, str] = {}
    structure: dict[str, list[str]] = {}
    for route, place in _ROUTES.items():
        structure[route] = []
        for module in read_json(folder / place / "modules.json"):
            path = (Path(place) / module["path"]).as_posix()
            types[path] = module["type"]
            structure[route].append(path)
    router = {
        "types": types,
        "structure": structure,
        "parameters": {"default_route": None, "allow_empty_key": False},
    }
    write_json(folder / "router_config.json", router)
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}]
    write_json(folder / "modules.json", modules)
    prompts = {
        "query": source.encoder.prompt("query"),
        "document": teacher.prompt("document"),
    }
    told = {
        "prompts": prompts,
        "default_prompt_name": None,
        "similarity_fn_name": teacher.spec.similarity,
    }
    write_json(folder / PROMPTS_FILE, told)
    (folder / CARD_FILE).write_text(make_pair_card(source, teacher), encoding="utf-8")
    # the license that was named is the student's: the teacher's weights have another
    write_license(source.license, folder / _ROUTES["query"])
    return cosines


def share_weights(places: Mapping[str, Path]) -> None:
    """Make the pair's weights the same files on disk as the student's and the teacher's own, where
    all were written, the file system has links, and the bytes are equal.

    Args:
        places: folder of each target that was written.
    """
    if "pair" not in places:
        return
    for name in _ROUTES.values():
        if name not in places:
            continue
        for path in sorted(places[name].rglob(_WEIGHTS)):
            copied = places["pair"] / name / path.relative_to(places[name])
            if copied.is_file() and read_sha256(copied) == read_sha256(path):
                _replace_by_link(path, copied)


def _replace_by_link(path: Path, copied: Path) -> None:
    link = copied.with_name(f".{copied.name}.link")
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError:
        return  # two copies, then
    os.replace(link, copied)
