"""Malformed recipes and arguments, generated from the schema: every key with every kind of value.

All is seeded: the same number always gives the same case.
"""

from __future__ import annotations

import random
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass

from leafkit.cli.command_table import COMMANDS
from leafkit.config import Recipe
from leafkit.config.fields import Spec, spec_of

NAMED = {"stages": "one", "sources": "more"}  # names for sections that are mappings
_DIGITS = "9" * 5000
# as they stand in YAML or behind the = of a command line
VALUES = {
    "null": "null",
    "empty": "",
    "true": "true",
    "word": "qqqq",
    "nan": ".nan",
    "plain nan": "nan",
    "inf": ".inf",
    "minus inf": "-.inf",
    "negative": "-1",
    "half": "0.5",
    "huge": "1000000000000000000",
    "1e18": "1e18",
    "1e400": "1e400",
    "5000 digits": _DIGITS,
    "5000 hex digits": "0x" + "f" * 5000,
    "5000 binary digits": "0b" + "1" * 5000,
    "5000 decimals": "0." + _DIGITS,
    "sexagesimal": "190:20:30",
    "octal": "0o777",
    "list": "[1, 2]",
    "list of lists": "[[1], [2]]",
    "list of null": "[null]",
    "list of nan": "[.nan]",
    "mapping": "{a: 1}",
    "nested": "{a: {b: {c: 1}}}",
    "deep list": "[" * 3000 + "]" * 3000,
    "deep mapping": "{a: " * 3000 + "1" + "}" * 3000,
    "unclosed": "[1, 2",
    "quote": "'open",
    "date": "2024-01-31",
    "no date": "2024-13-45",
    "no time": "2024-01-31T99:99:99Z",
    "alias": "*other",
    "anchor": "&a [*a]",
    "tag": "!!python/object/apply:os.system ['true']",
    "binary": "!!binary gIGC",
    "bad binary": "!!binary abc",
    "int tag": "!!int x",
    "set": "{? a, ? b}",
    "interpolation": "${oc.env:HOME}",
    "missing": "???",
    "unicode": "é\u202e\U0001f600",
    "superscript": "²",
    "surrogate": '"\\ud83d"',
    "control": '"\\e[31m"',
    "nul": '"\\0"',
    "long": "x" * 100_000,
    "merge": "{<<: 3}",
    "two documents": "1\n--- \n2",
    "tab": "\t1",
}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the schema: its full name, type and declaration."""

    name: str
    kind: object
    spec: Spec

    @property
    def is_number(self) -> bool:
        """Whether it takes a number, or some."""
        return bool({int, float} & {self.kind, *typing.get_args(self.kind)})


def all_keys(kind: type = Recipe, prefix: str = "") -> Iterator[Key]:
    """Every key that has a value, with one name for each mapping of sections."""
    hints = typing.get_type_hints(kind)
    for declared in fields(kind):
        hint, name = hints[declared.name], f"{prefix}{declared.name}"
        inner = typing.get_args(hint)[-1] if typing.get_args(hint) else None
        if is_dataclass(hint):
            yield from all_keys(typing.cast(type, hint), f"{name}.")
        elif is_dataclass(inner):
            yield from all_keys(typing.cast(type, inner), f"{name}.{NAMED[declared.name]}.")
        else:
            yield Key(name, hint, spec_of(declared))


@dataclass(frozen=True, slots=True)
class BadRecipe:
    """One case: the recipe's bytes, and words of a command line."""

    about: str
    content: bytes
    overrides: tuple[str, ...] = ()


def bad_values(seed: int = 0) -> Iterator[BadRecipe]:
    """Every key with every value, in a file and on a command line in turn, in random order."""
    pairs = [(key, what) for key in all_keys() for what in VALUES]
    random.Random(seed).shuffle(pairs)
    for number, (key, what) in enumerate(pairs):
        if number % 2:
            yield BadRecipe(f"{key.name}={what}", b"", (f"{key.name}={VALUES[what]}",))
        else:
            *above, last = key.name.split(".")
            lines = [f"{'  ' * i}{part}:" for i, part in enumerate(above)]
            lines.append(f"{'  ' * len(above)}{last}: {VALUES[what]}")
            yield BadRecipe(f"{key.name}: {what}", "\n".join([*lines, ""]).encode())


def bad_files(sound: bytes, count: int, seed: int = 0) -> Iterator[BadRecipe]:
    """A sound recipe's file cut, changed, doubled and written in other ways."""
    fixed = {
        "empty": b"",
        "comment": b"# nothing\n",
        "scalar": b"3\n",
        "list": b"- a\n- b\n",
        "two documents": sound + b"---\nseed: 1\n",
        "utf-16": sound.decode().encode("utf-16"),
        "utf-16 without mark": sound.decode().encode("utf-16-le"),
        "latin-1": b"name: caf\xe9\n",
        "mark": b"\xef\xbb\xbf" + sound,
        "crlf": sound.replace(b"\n", b"\r\n"),
        "cr": sound.replace(b"\n", b"\r"),
        "tabs": sound.replace(b"  ", b"\t"),
        "nul": sound.replace(b"seed", b"se\0ed"),
        "twice": sound + sound,
        "deep": b"".join(b" " * i + b"a:\n" for i in range(3000)),
        "deep flow": b"a: " + b"[" * 20_000,
        "deep keys": b"? " * 5000 + b"a",
        "bomb": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
        "itself": b"a: &a {b: *a}\n",
        "merge": b"a: &a {seed: 1}\n<<: *a\n",
        "number keys": b"1: 2\n3.5: 4\n",
        "null key": b"~: 1\n",
        "list key": b"? [a, b]\n: 1\n",
        "mapping key": b"? {a: b}\n: 1\n",
        "dotted": b"student.ridge: 1\n",
        "long key": b"k" * 100_000 + b": 1\n",
        "surrogate key": b'"\\ud83d": 1\n',
        "control key": b'"\\e[31m": 1\n',
        "base of a number": b"base: 3\n",
        "base of itself": b"base: mine\n",
        "base that is not there": b"base: nothing\n",
        "base of a folder": b"base: /tmp/\n",
        "base of nul": b'base: "a\\0b"\n',
        "base of a long name": b"base: " + b"n" * 5000 + b"\n",
        "stage of a number": b"stages: {1: {num_steps: 2}}\n",
        "stage of a path": b"stages: {../out: {num_steps: 2}}\n",
        "stage of a surrogate": b'stages: {"\\ud83d": {num_steps: 2}}\n',
        "source of a path": b"data: {sources: {../out: {uri: x}}}\n",
        "stages as a list": b"stages: [1, 2]\n",
        "section as text": b"student: small\n",
        "directive": b"%YAML 9.9\n---\nseed: 1\n",
    }
    for about, content in fixed.items():
        yield BadRecipe(about, content)
    chooser = random.Random(seed)
    for number in range(count - len(fixed)):
        content = bytearray(sound)
        kind = number % 4
        at = chooser.randrange(len(sound))
        if kind == 0:
            del content[at:]
        elif kind == 1:
            for _ in range(4):
                content[chooser.randrange(len(content))] ^= 1 << chooser.randrange(8)
        elif kind == 2:
            content[at:at] = chooser.choice(list(VALUES.values()))[:200].encode()
        else:
            lines = sound.splitlines(keepends=True)
            chooser.shuffle(lines)
            content = bytearray(b"".join(lines))
        yield BadRecipe(f"changed {number}", bytes(content))


WORDS = [
    "", " ", "=", "=1", "a=b=c", "recipe=", "recipe=.", "recipe=/", "recipe=\udce9", "recipe=..",
    "recipe=a\0b", "seed", "seed=", "seed=x", "k=", "k=0", "k=-1", "k=1e9", "k=" + _DIGITS,
    "k=1.5", "k=999999999999", "index=", "index=\udce9", "index=../..", "port=", "port=0x50",
    "port=-1", "port=99999", "port=" + _DIGITS, "host=", "host=\0", "host=no such host",
    "host=999.1.1.1", "out=", "out=/", "out=/no/such/dir\0", "out=" + "n" * 5000, "api_key_env=",
    "api_key_env=\0", "api_key_env=A=B", "--force", "-v", "/no/such", "\0", "\udce9",
    "n" * 5000, "é\u202e", "\x1b[31m", "teacher=", "student=model:", "collections=",
    "collections=[", "corpus=jsonl:", "dims=x", "precisions=[float33]", "name=", "name=../x",
    "name=a\0b", "name=" + "n" * 300, "strict=maybe", "diagnose=2", "checkpoints=",
    "checkpoints=\0", "teacher=model:\udce9", "teacher=hub:x", "tasks=[sts:]", "name=\udce9",
]  # fmt: skip


def bad_words(recipe: str, count: int, seed: int = 0) -> Iterator[list[str]]:
    """Command lines that can do no work: of the recipe's models there is none.

    Args:
        recipe: word that names it.
        count: of command lines.
        seed: of the choice.
    """
    chooser = random.Random(seed)
    names = [*COMMANDS, *COMMANDS, "", "destill", "\udce9", "\0", "-", "../distill", "__init__"]
    for _ in range(count):
        name = chooser.choice(names)
        words = chooser.sample(WORDS, chooser.randint(0, 3))
        if name in {"recipes", "doctor", ""}:
            words.append(chooser.choice(WORDS))  # alone they do their work
        # a pair of models without a recipe would read the built-in collection
        elif name not in {"serve", "search"} and (
            name in {"bench", "inherit"} or chooser.random() < 0.7
        ):
            words.append(recipe)
        yield [name, *words]
