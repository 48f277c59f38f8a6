"""What counts as another method: every change of what is computed, and no other change."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from leafkit.core import method
from leafkit.core.method import SourceTree, method_of

PACKAGE = Path(method.__file__).resolve().parents[1]
STUDENT = [("leafkit.losses.leaf", "student")]
SOURCES = {
    "losses/__init__.py": "",
    "losses/leaf.py": '''
"""Losses."""
from math import sqrt
from leafkit.core.console import log
from leafkit.data import rows
from leafkit.models.encoder import Encoder as E
from leafkit.losses import registry

WEIGHT = 2.0
OTHER = 3.0

def student(x, y):
    """Distil."""
    from leafkit.data.lazy import order
    log("begins")
    if x is None:
        raise ValueError(f"no {x}")
    return order(loss(E(x), y)) * WEIGHT * sqrt(4)

def loss(x: float, y: float) -> float:
    # the distance
    return abs(x - y)

def teacher(x):
    return x * OTHER + rows.count()
''',
    "losses/registry.py": "TABLE = {}\nTABLE['a'] = 1\n\ndef unused():\n    return 1\n",
    "models/encoder.py": "from leafkit.core.truncate import cut\n\nclass Encoder:\n    size = 4\n"
    "    def run(self, x):\n        return cut(x)\n",
    "data/rows.py": "def count():\n    return 1\n\ndef more():\n    return 2\n",
    "data/lazy.py": "def order(x):\n    return x\n",
    "core/truncate.py": "def cut(x):\n    return x\n",
    "core/console.py": "def log(text):\n    print(text)\n",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package with the rooms of leafkit."""
    root = tmp_path / "leafkit"
    for name, text in SOURCES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        (root / name).parent.joinpath("__init__.py").touch()
    return root


def _edit(root: Path, file: str, old: str, new: str) -> None:
    text = (root / file).read_text(encoding="utf-8")
    assert text.count(old) >= 1, f"{file} does not hold {old!r}"
    (root / file).write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses/leaf.py", "abs(x - y)", "(x - y) ** 2"),
        ("losses/leaf.py", "WEIGHT = 2.0", "WEIGHT = 2.5"),
        ("losses/leaf.py", "sqrt(4)", "sqrt(5)"),
        ("losses/leaf.py", "from math import sqrt", "from numpy import sqrt"),
        ("losses/leaf.py", "if x is None", "if y is None"),
        ("losses/leaf.py", "raise ValueError(", "raise TypeError("),
        ("models/encoder.py", "size = 4", "size = 5"),
        ("models/encoder.py", "cut(x)", "cut(x + 1)"),
        ("core/truncate.py", "return x", "return x[:1]"),
        ("data/lazy.py", "return x", "return -x"),
        ("losses/leaf.py", "def student(x, y):", "def student(x, y=1):"),
    ],
)
def test_what_is_computed_counts(package: Path, file: str, old: str, new: str) -> None:
    before = SourceTree(package).method(STUDENT)
    _edit(package, file, old, new)
    assert SourceTree(package).method(STUDENT) != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses/leaf.py", "# the distance", "# what lies between"),
        ("losses/leaf.py", '"""Distil."""', '"""Distil, and say so."""'),
        ("losses/leaf.py", '"""Losses."""', ""),
        ("losses/leaf.py", 'log("begins")', 'log("starts")'),
        ("losses/leaf.py", '    log("begins")\n', ""),
        ("losses/leaf.py", 'f"no {x}"', '"x is missing"'),
        ("losses/leaf.py", "x: float, y: float) -> float", "x, y)"),
        ("losses/leaf.py", "    return abs(x - y)", "    return (\n        abs(x - y)\n    )"),
        ("losses/leaf.py", "OTHER = 3.0", "OTHER = 4.0"),
        ("losses/leaf.py", "return x * OTHER", "return x + OTHER"),
        ("losses/registry.py", "return 1", "return 2"),
        ("core/console.py", "print(text)", "print(text.upper())"),
        ("data/rows.py", "return 1", "return 7"),
        ("losses/leaf.py", "Encoder as E", "Encoder as Encoder"),
    ],
)
def test_what_is_said_or_unused_does_not_count(
    package: Path, file: str, old: str, new: str
) -> None:
    before = SourceTree(package).method(STUDENT)
    _edit(package, file, old, new)
    if new.endswith("as Encoder"):
        _edit(package, file, "E(x)", "Encoder(x)")
        # another name in the body is another body: the price of reading text alone
        assert SourceTree(package).method(STUDENT) != before
        return
    assert SourceTree(package).method(STUDENT) == before


def test_a_definition_may_move_to_another_module(package: Path) -> None:
    before = SourceTree(package).method(STUDENT)
    body = (package / "data/lazy.py").read_text()
    (package / "data/other.py").write_text(body)
    (package / "data/lazy.py").unlink()
    _edit(package, "losses/leaf.py", "from leafkit.data.lazy", "from leafkit.data.other")
    assert SourceTree(package).method(STUDENT) == before


def test_a_module_as_an_object_counts_whole(package: Path) -> None:
    teacher = [("leafkit.losses.leaf", "teacher")]
    before = SourceTree(package).method(teacher)
    _edit(package, "data/rows.py", "return 2", "return 3")
    assert SourceTree(package).method(teacher) != before


def test_what_a_module_does_when_imported_counts(package: Path) -> None:
    _edit(package, "losses/leaf.py", "* WEIGHT", "* WEIGHT * registry.TABLE['a']")
    before = SourceTree(package).method(STUDENT)
    _edit(package, "losses/registry.py", "TABLE['a'] = 1", "TABLE['a'] = 2")
    assert SourceTree(package).method(STUDENT) != before


def test_a_registered_definition_counts_though_no_one_names_it(package: Path) -> None:
    registered = "\n@register\ndef by_name(x):\n    return 1\n"
    for text in (registered, registered.replace("return 1", "return 2")):
        path = package / "data/lazy.py"
        path.write_text(SOURCES["data/lazy.py"] + text)
        if "return 1" in text:
            before = SourceTree(package).method(STUDENT)
    assert SourceTree(package).method(STUDENT) != before


def test_an_unknown_root_is_refused(package: Path) -> None:
    for module, name in (("leafkit.losses.leaf", "nobody"), ("leafkit.core.console", "log")):
        with pytest.raises(ValueError, match="defines no"):
            SourceTree(package).method([(module, name)])


def test_without_sources_the_version_stands_for_them(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (package / "losses/leaf.py").unlink()

    def student() -> None: ...

    student.__module__, student.__qualname__ = "leafkit.losses.leaf", "student"
    monkeypatch.setattr(method, "_installed", lambda: SourceTree(package))
    assert method_of(student) == f"version {method.__version__}"


# --- the package itself


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package in a place where it may be edited."""
    ignored = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(PACKAGE, tmp_path / "leafkit", ignore=ignored))


def _declared(root: Path) -> dict[str, str]:
    """The method of every step, by the module and function that declares it, in a package."""
    tree = SourceTree(root)
    found = {}
    for path in sorted((root / "pipeline").rglob("*.py")):
        source = ast.parse(path.read_text(encoding="utf-8"))
        place = path.relative_to(root).with_suffix("").as_posix()
        module = f"leafkit.{place.replace('/', '.')}"
        origin = {
            alias.asname or alias.name: (node.module or "", alias.name)
            for node in ast.walk(source)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for function in source.body:
            calls = [
                node
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "method_of"
            ]
            names = [arg.id for call in calls for arg in call.args if isinstance(arg, ast.Name)]
            if not names or not isinstance(function, ast.FunctionDef):
                continue
            here = {node.name for node in source.body if isinstance(node, ast.FunctionDef)}
            # one that the function chooses itself is among those that it mentions
            own = [(module, name if name in here else function.name) for name in names]
            roots = [origin.get(name, root) for name, root in zip(names, own, strict=True)]
            if function.name != "load_vectors":
                found[f"{place}:{function.name}"] = tree.method(roots)
    return found


def _changed(root: Path, before: dict[str, str]) -> set[str]:
    after = _declared(root)
    assert after.keys() == before.keys()
    return {name for name in before if after[name] != before[name]}


def test_an_edited_loss_is_another_method_of_the_student_and_of_nothing_else(copy: Path) -> None:
    before = _declared(copy)
    assert len(before) >= 12
    _edit(
        copy,
        "losses/leaf.py",
        "(student.float() - teacher.float()).square().sum()",
        "(student.float() - teacher.float()).abs().sum()",
    )
    changed = _changed(copy, before)
    assert changed
    # the rungs of a ladder are students, too
    of_students = ("student", "distill", "pipeline/ladder/")
    assert all(any(word in name for word in of_students) for name in changed), changed


def test_an_edited_contrastive_loss_is_another_method_of_the_teacher(copy: Path) -> None:
    before = _declared(copy)
    _edit(copy, "losses/contrastive.py", "def info_nce(", "def info_nce(  # edited\n")
    assert _changed(copy, before) == set()
    text = (copy / "losses/contrastive.py").read_text()
    start = text.index("def info_nce(")
    at = text.index("    return ", start)
    (copy / "losses/contrastive.py").write_text(f"{text[:at]}    return 2 * {text[at + 11 :]}")
    changed = _changed(copy, before)
    assert changed
    assert all(name.startswith("pipeline/teacher/") for name in changed), changed


def test_another_report_is_nobodys_method(copy: Path) -> None:
    before = _declared(copy)
    for path in [*(copy / "report").rglob("*.py"), *(copy / "core").glob("console.py")]:
        path.write_text(path.read_text() + "\nMORE = 1\n")
    for path in copy.rglob("*.py"):
        path.write_text(path.read_text() + "\n# a comment\n")
    assert _changed(copy, before) == set()


def test_every_module_that_computes_belongs_to_some_step() -> None:
    """A module that no step leads to could be edited without anything being run again."""
    tree = SourceTree(PACKAGE)
    roots = [
        (module, name)
        for module in _modules("pipeline")
        for name in _functions(module)
        if not module.endswith((".run", ".collect"))
    ]
    reached = {module for module, _ in tree.reach(roots)}
    rooms = ("losses", "train", "mining", "embedders", "synth")
    forgotten = {m for room in rooms for m in _modules(room) if _functions(m)} - reached
    # what a user's own Trainer takes
    assert forgotten <= {"leafkit.train.distillation_data", "leafkit.train.contrastive_data"}


def _modules(room: str) -> list[str]:
    return [
        ".".join(("leafkit", *path.relative_to(PACKAGE).with_suffix("").parts))
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path.name != "__init__.py"
    ]


def _functions(module: str) -> list[str]:
    path = PACKAGE.joinpath(*module.split(".")[1:]).with_suffix(".py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return [node.name for node in body if isinstance(node, ast.FunctionDef)]
