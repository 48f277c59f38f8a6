"""The house: imports go down, never up; read from the source with ast, nothing is imported."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "leafkit"
FLOORS = {
    "core": 0,
    "config": 1,
    "results": 1,
    "data": 2,
    "losses": 2,
    "models": 3,
    "index": 3,
    "embedders": 4,
    "stores": 4,
    "train": 5,
    "mining": 5,
    "synth": 5,
    "evaluation": 6,
    "report": 7,
    "exporters": 7,
    "pipeline": 8,
    "adapters": 9,
    "api": 9,
    "cli": 10,
    "server": 9,
    "testing": 9,
    "__main__": 11,
    "": 12,  # the facade: names of every room, imported when they are asked for
}
MAX_LINES = 400
MEDIAN_LINES = 150
MAX_MODULES = 20  # of a folder
YAML_MODULES = {"leafkit.config.load", "leafkit.config.yaml_text"}
# called by users alone, as the documentation says
FOR_USERS = {
    "leafkit.testing.check_inheritance_of",
    "leafkit.evaluation.mteb_encoder.load_for_mteb",
}


def read_package(root: Path = PACKAGE) -> dict[str, str]:
    """Source of every module by its dotted name."""
    sources = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(
            encoding="utf-8"
        )
    return sources


def _packages(sources: Mapping[str, str]) -> set[str]:
    return {name.rpartition(".")[0] for name in sources} | {"leafkit"}


def imported_names(module: str, source: str, is_package: bool) -> Iterator[str]:
    """Dotted names that a module imports anywhere in its body, ``from a import b`` as ``a.b``; lazy
    imports count too.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]) if base else ".".join(parts)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(
            ("import_module", "__import__")
        ):
            yield from (
                a.value
                for a in node.args
                if isinstance(a, ast.Constant) and isinstance(a.value, str)
            )


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """For each module the modules of the package that it imports."""
    packages = _packages(sources)
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        graph[module] = set()
        for name in imported_names(module, source, module in packages):
            while name not in sources and "." in name:
                name = name.rpartition(".")[0]
            if name in sources and name != module:
                graph[module].add(name)
    return graph


def room(module: str) -> str:
    """Top-level folder or module below leafkit; "" for leafkit itself."""
    return [*module.split("."), ""][1]


def upward_imports(sources: Mapping[str, str]) -> list[str]:
    """Every import that does not go to a lower floor or stay in its own room, in words."""
    return sorted(
        f"{module} (floor {FLOORS[room(module)]}) imports {target} (floor {FLOORS[room(target)]})"
        for module, targets in import_graph(sources).items()
        for target in targets
        if room(target) != room(module) and FLOORS[room(target)] >= FLOORS[room(module)]
    )


def import_cycles(sources: Mapping[str, str]) -> list[str]:
    """Modules that import themselves through others."""
    graph = import_graph(sources)
    return sorted(module for module in graph if module in reachable(graph, graph[module]))


def reachable(graph: Mapping[str, set[str]], start: set[str]) -> set[str]:
    """Modules imported by ``start``, directly or through others, ``start`` included."""
    found, pending = set(start), list(start)
    while pending:
        new = graph[pending.pop()] - found
        found |= new
        pending += new
    return found


def reaches(sources: Mapping[str, str], importer: str, forbidden: str) -> list[str]:
    """Modules at or below ``importer`` that get to ``forbidden``, be it through others."""

    def is_in(module: str, prefix: str) -> bool:
        return module == prefix or module.startswith(f"{prefix}.")

    graph = import_graph(sources)
    return sorted(
        f"{module} -> {target}"
        for module in graph
        if is_in(module, importer)
        for target in reachable(graph, graph[module])
        if is_in(target, forbidden)
    )


def importers_of(sources: Mapping[str, str], packages: set[str]) -> set[str]:
    """Modules that import one of some third-party packages."""
    ours = _packages(sources)
    return {
        module
        for module, source in sources.items()
        if any(
            name.split(".")[0] in packages
            for name in imported_names(module, source, module in ours)
        )
    }


def builders_of_trainers(sources: Mapping[str, str]) -> set[str]:
    """Modules that call something named ``Trainer``."""
    return {
        module
        for module, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "Trainer"
    }


@pytest.fixture(scope="module")
def sources() -> dict[str, str]:
    """The package as it is."""
    return read_package()


def test_every_module_has_a_floor(sources: dict[str, str]) -> None:
    assert sorted(module for module in sources if room(module) not in FLOORS) == []
    assert len(sources) > 40


def test_imports_go_down(sources: dict[str, str]) -> None:
    assert upward_imports(sources) == []


def test_no_import_cycle(sources: dict[str, str]) -> None:
    assert import_cycles(sources) == []


@pytest.mark.parametrize(
    ("importer", "forbidden"),
    [
        ("leafkit.losses", "leafkit.models"),
        ("leafkit.evaluation.metrics", "leafkit.models"),
        ("leafkit.index", "leafkit.models"),
        ("leafkit.evaluation.inheritance", "leafkit.models"),
        ("leafkit.models", "leafkit.data"),
        ("leafkit.data", "leafkit.models"),
    ],
)
def test_strangers(sources: dict[str, str], importer: str, forbidden: str) -> None:
    assert any(module.startswith(importer) for module in sources)
    assert reaches(sources, importer, forbidden) == []


def test_only_the_recipe_modules_know_yaml(sources: dict[str, str]) -> None:
    assert importers_of(sources, {"yaml", "omegaconf"}) == YAML_MODULES


def test_only_fit_builds_a_trainer(sources: dict[str, str]) -> None:
    assert builders_of_trainers(sources) == {"leafkit.train.fit"}


def test_modules_are_short_and_named_after_what_they_hold(sources: dict[str, str]) -> None:
    assert {
        module: source.count("\n")
        for module, source in sources.items()
        if source.count("\n") > MAX_LINES
    } == {}
    assert [
        module
        for module in sources
        if module.rpartition(".")[2] in {"utils", "util", "helpers", "misc"}
    ] == []


def test_rooms_are_small(sources: dict[str, str]) -> None:
    packages = _packages(sources)
    modules = {m: s.count("\n") for m, s in sources.items() if m not in packages}
    assert median(modules.values()) < MEDIAN_LINES
    rooms = Counter(module.rpartition(".")[0] for module in modules)
    assert {name: count for name, count in rooms.items() if count > MAX_MODULES} == {}


def test_results_reach_the_report_typed(sources: dict[str, str]) -> None:
    """Look-ups by name in the report, and functions that return plain dicts, stay few."""
    lookups = sum(s.count(".get(") for m, s in sources.items() if m.startswith("leafkit.report"))
    assert lookups < 20
    returns = [
        f"{module}.{node.name}"
        for module, source in sources.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.returns is not None
        and ast.unparse(node.returns).startswith("dict[str, Any]")
    ]
    assert len(returns) < 10, returns


def test_no_line_is_kept_from_the_formatter(sources: dict[str, str]) -> None:
    assert [module for module, source in sources.items() if "fmt: skip" in source] == []


def unused_definitions(sources: Mapping[str, str], others: str = "") -> set[str]:
    """Functions and classes of modules that no code of the package names; what docstrings say of
    them is no use of them.
    """
    defined, used = {}, set(re.findall(r"\w+", others))
    for module, source in sources.items():
        tree = ast.parse(source)
        documented = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                defined[f"{module}.{node.name}"] = node.name
        for part in ast.walk(tree):
            if isinstance(part, ast.Name):
                used.add(part.id)
            elif isinstance(part, ast.Attribute):
                used.add(part.attr)
            elif isinstance(part, ast.Constant) and id(part) not in documented:
                used |= set(re.findall(r"\w+", str(part.value)))
    return {full for full, name in defined.items() if name not in used and name[:2] != "__"}


def test_nothing_is_there_for_tests_and_benchmarks_alone(sources: dict[str, str]) -> None:
    templates = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.j2")]
    pages = (PACKAGE.parent / "docs/hooks.py").read_text(encoding="utf-8")
    assert unused_definitions(sources, " ".join([*templates, pages])) == FOR_USERS


# --- the checker itself: each planted mistake is found


def test_the_checker_finds_what_nobody_calls(sources: dict[str, str]) -> None:
    planted = 'def left_over() -> None:\n    """See ``left_over``."""\n'
    assert unused_definitions({"leafkit.data.planted": planted}) == {
        "leafkit.data.planted.left_over"
    }
    called = planted + "\nleft_over()\n"
    assert unused_definitions({"leafkit.data.planted": called}) == set()


@pytest.mark.parametrize(
    ("module", "planted", "complaint"),
    [
        (
            "leafkit.data.vector_store",
            "from leafkit.models.text_encoder import TextEncoder",
            "imports leafkit.models.text_encoder (floor 3)",
        ),
        (
            "leafkit.data.vector_store",
            "def f():\n    import leafkit.train.fit",
            "imports leafkit.train.fit (floor 5)",
        ),
        (
            "leafkit.data.vector_store",
            "from ..models import text_encoder",
            "imports leafkit.models.text_encoder (floor 3)",
        ),
        (
            "leafkit.data",
            "from ..models import text_encoder",
            "imports leafkit.models.text_encoder (floor 3)",
        ),
        (
            "leafkit.core.errors",
            "from leafkit.config import load",
            "imports leafkit.config.load (floor 1)",
        ),
        (
            "leafkit.core.artifact",
            "from leafkit.config.load import load_recipe",
            "imports leafkit.config.load (floor 1)",
        ),
        (
            "leafkit.losses.leaf",
            "import importlib\nimportlib.import_module('leafkit.train.fit')",
            "imports leafkit.train.fit",
        ),
    ],
)
def test_the_checker_finds_a_planted_upward_import(
    sources: dict[str, str], module: str, planted: str, complaint: str
) -> None:
    before = set(upward_imports(sources))
    found = set(upward_imports(sources | {module: f"{sources[module]}\n{planted}\n"})) - before
    assert len(found) == 1
    assert f"{module} (floor {FLOORS[room(module)]}) {complaint}" in found.pop()


@pytest.mark.parametrize(
    "planted",
    ["import leafkit.core.errors", "from leafkit.data import records", "from . import records"],
)
def test_the_checker_allows_lower_floors_and_the_own_folder(
    sources: dict[str, str], planted: str
) -> None:
    assert upward_imports(sources | {"leafkit.data.vector_store": planted}) == upward_imports(
        sources
    )


def test_the_checker_finds_a_planted_cycle() -> None:
    sources = {
        "leafkit": "",
        "leafkit.data": "",
        "leafkit.data.a": "from leafkit.data import b",
        "leafkit.data.b": "from . import c",
        "leafkit.data.c": "def f():\n    from .a import g",
        "leafkit.data.d": "from leafkit.data.a import g",
    }
    assert import_cycles(sources) == ["leafkit.data.a", "leafkit.data.b", "leafkit.data.c"]


def test_the_checker_finds_a_stranger_behind_a_friend(sources: dict[str, str]) -> None:
    planted = sources | {
        "leafkit.index.ranking": "from leafkit.embedders.transformer import TransformerEmbedder"
    }
    assert "leafkit.evaluation.metrics -> leafkit.models.text_encoder" in reaches(
        planted, "leafkit.evaluation.metrics", "leafkit.models"
    )


def test_the_checker_finds_planted_yaml_and_trainers(sources: dict[str, str]) -> None:
    planted = sources | {
        "leafkit.cli.main": "import yaml",
        "leafkit.cli.commands.doctor": "from omegaconf.errors import X",
    }
    assert importers_of(planted, {"yaml", "omegaconf"}) == {
        *YAML_MODULES,
        "leafkit.cli.main",
        "leafkit.cli.commands.doctor",
    }
    planted = sources | {
        "leafkit.cli.main": "import lightning as pl\npl.Trainer()",
        "leafkit.cli.commands.doctor": "Trainer(max_steps=1)",
    }
    assert builders_of_trainers(planted) == {
        "leafkit.train.fit",
        "leafkit.cli.main",
        "leafkit.cli.commands.doctor",
    }
