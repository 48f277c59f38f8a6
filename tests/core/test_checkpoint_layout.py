"""One module owns the names of folders and files, and no two of its names for one place differ."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from leafkit.config.rules_stage import FOLDER_NAME
from leafkit.core import checkpoint_layout as layout

PACKAGE = Path(layout.__file__).resolve().parents[1]
# names of formats that leafkit reads or writes for others: sentence-transformers, BEIR
FOREIGN = frozenset(
    "config.json modules.json tokenizer.json sentence_bert_config.json model.safetensors "
    "config_sentence_transformers.json corpus.jsonl queries.jsonl model.onnx vocab.txt "
    "tokenizer_config.json adapter_config.json".split()
)
FILE_NAME = re.compile(r"[.\w]+\.(json|jsonl|html|npz|npy|parquet|xml|faiss|onnx)")


def _names() -> dict[str, str]:
    return {
        name: value for name, value in vars(layout).items() if name.isupper() and type(value) is str
    }


def _spelled_elsewhere() -> dict[str, set[str]]:
    """Modules by the file names of the layout that stand in their source as text."""
    owned = set(_names().values()) - FOREIGN
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        if path.name == "checkpoint_layout.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = node.value
                if text in owned and FILE_NAME.fullmatch(text):
                    found.setdefault(text, set()).add(path.name)
    return found


def test_no_other_module_spells_a_file_name() -> None:
    assert _spelled_elsewhere() == {}


def test_no_other_module_defines_a_constant_of_the_layout() -> None:
    again = {
        f"{path.name}: {target.id}"
        for path in PACKAGE.rglob("*.py")
        if path.name != "checkpoint_layout.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in _names()
    }
    assert again == set()


def test_every_folder_of_a_recipe_is_reserved() -> None:
    # a folder is a name without a suffix: what ends in _FILE or _REPORT is none
    folders = {
        value
        for name, value in _names().items()
        if not name.endswith(("_FILE", "_FOLDER", "REPORT")) and not value.startswith(".")
    }
    assert folders == set(layout.RECIPE_FOLDERS)
    shared = {
        value
        for name, value in _names().items()
        if name.endswith("_FOLDER") and not value.startswith(".")
    }
    inside_a_step = {
        layout.SYNTH_TASKS_FOLDER,
        layout.LOGS_FOLDER,
        layout.STATE_FOLDER,
        layout.ROUTER_FOLDER,
    }
    assert shared - inside_a_step == set(layout.SHARED_FOLDERS)
    # what is hidden needs no reserving: no recipe and no stage can be called so
    hidden = [value for value in _names().values() if value.startswith(".")]
    assert layout.LOCKS_FOLDER in hidden
    assert not any(re.fullmatch(FOLDER_NAME, value) for value in hidden)


@pytest.mark.parametrize(
    ("name", "by_all", "in_recipe"),
    [
        ("vectors", True, True),
        ("Corpora", True, True),
        ("student", False, True),
        ("index-hnsw", False, True),
        ("indexes", False, False),
        ("finetune", False, False),
    ],
)
def test_taken_names(name: str, by_all: bool, in_recipe: bool) -> None:
    assert layout.is_taken_by_all(name) is by_all
    assert layout.is_taken_in_recipe(name) is in_recipe


def test_names_of_shards_and_indexes() -> None:
    assert layout.index_folder("hnsw") == "index-hnsw"
    assert layout.vector_shard_file(7, "hashes") == "00007.hashes"
