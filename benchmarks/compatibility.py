"""Exported folders in the tools that people have: each opens the folder in its own interpreter, and
its vectors are compared with leafkit's.

    python benchmarks/compatibility.py --pair checkpoints/kalm-to-23m [--exported FOLDER]
        [--make-environments DIR] [--python TOOL=PATH ...] [--only TOOL ...]

--exported holds what `leafkit export to=hub,onnx,openvino` wrote (hub/, openvino/); without it the
pair is exported first. An interpreter comes from --python, else from --make-environments: a virtual
environment for each tool, with the versions of compatibility_parts/tools.py, beside the packages of
the interpreter that runs it. For transformers.js it is the folder of an npm install, which node and
a page in headless Chromium open; the page needs Chromium and `npm ci --prefix tests/browser`. A
tool without one is "not run", and the report says why. Writes a dated report.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from compatibility_parts.environments import NotRun, last_words, make_environment
from compatibility_parts.tools import CHECKS, TOOLS, Check
from lib.arguments import make_parser
from lib.machine import describe
from lib.report import command, publish, table, title

import leafkit
from leafkit.core.checkpoint_layout import STUDENT
from leafkit.core.errors import LeafkitError
from leafkit.embedders.make_embedder import make_embedder
from leafkit.models.encoder_protocol import read_model

EQUAL = 1 - 1e-6
READERS = Path(__file__).parent / "readers"
NUM_TEXTS = 48
ODD = ["größer ≠ kleiner, 北京", "  two\nlines \t and tabs  ", "a", "long text " * 600]
_MINUTES = 10.0  # for one tool


def export_folders(options: argparse.Namespace, work: Path) -> dict[str, Path]:
    """Exported folders by name; those that are not there are left out."""
    exported = options.exported or work
    if options.exported is None:
        for target in ("hub", "onnx", "openvino"):
            try:
                leafkit.export(options.pair, work, to=[target])
            except LeafkitError as err:
                print(f"{target} is not exported: {err}", flush=True)
    places = {
        "student": exported / "hub" / "student",
        "pair": exported / "hub" / "pair",
        "onnx": exported / "hub" / "student-onnx",
        "openvino": exported / "openvino",
    }
    return {name: place.resolve() for name, place in places.items() if place.is_dir()}


def make_job(
    options: argparse.Namespace, folders: Mapping[str, Path]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What each tool is told, and leafkit's own vectors in float32 by role."""
    pair = leafkit.load_pair(options.pair)
    texts = [document.full_text for document in pair.documents][:NUM_TEXTS]
    queries = [*dict.fromkeys(" ".join(text.split()[:9]) for text in texts), *ODD]
    documents = [*dict.fromkeys(texts), *ODD]
    encoder = read_model(options.pair / STUDENT)
    student = make_embedder(encoder)
    lengths = [len(ids) for ids in encoder.tokenize(queries, "query")]
    expected = {"queries": student.embed(queries, "query", student.max_tokens)}
    try:
        expected["documents"] = pair.encode_document(documents)
    except LeafkitError as err:
        print(f"the teacher's vectors are not compared: {err}", flush=True)
    job = {
        "folders": {name: str(place) for name, place in folders.items()},
        "queries": queries,
        "documents": documents,
        "is_long": [length >= student.max_tokens for length in lengths],
        "prompt": student.prompt("query"),
        "dim": student.dim,
        "max_tokens": student.max_tokens,
    }
    return job, expected


def find_interpreter(name: str, options: argparse.Namespace) -> Path:
    """What runs a tool.

    Raises:
        NotRun: nothing here does.
    """
    if name in options.python:
        return options.python[name]
    if options.make_environments is None:
        raise NotRun("no interpreter was named (--python, --make-environments)")
    return make_environment(name, TOOLS[name], options.make_environments.resolve())


def command_of(check: Check, interpreter: Path, job_file: Path, vectors_file: Path) -> list[str]:
    """The words that start a check's reader."""
    if not TOOLS[check.tool].is_node:
        words = [interpreter, READERS / "python_tools.py", check.reader, job_file, vectors_file]
        return [str(word) for word in words]
    starter = (
        [sys.executable, READERS / "in_chromium.py"]
        if check.is_in_chromium
        else ["node", READERS / "transformers_js.mjs"]
    )
    return [str(word) for word in (*starter, interpreter, job_file, vectors_file, check.reader)]


def run_check(
    check: Check, interpreter: Path, job_file: Path, work: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tool's vectors by role, and what it says of itself.

    Raises:
        NotRun: it failed, or took too long.
    """
    is_node = TOOLS[check.tool].is_node
    vectors_file = work / f"vectors{'.json' if is_node else '.npz'}"
    vectors_file.unlink(missing_ok=True)
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    # vLLM in one process: others would import everything anew, and live on where it is ended
    offline["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    # the tool's own packages, not those that this process was told of
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | offline
    try:
        done = subprocess.run(
            command_of(check, interpreter, job_file, vectors_file),
            capture_output=True,
            text=True,
            timeout=60 * _MINUTES,
            env=environment,
            cwd=work,
        )
    except subprocess.TimeoutExpired as err:
        raise NotRun(f"it did not end within {_MINUTES:g} minutes") from err
    except OSError as err:
        raise NotRun(f"its interpreter does not run ({err.strerror})") from err
    if done.returncode:
        raise NotRun(f"it fails: {last_words(done.stderr)}")
    # a tool may still say that it ends
    about = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    if is_node:
        return {k: np.array(v) for k, v in json.loads(vectors_file.read_text()).items()}, about
    with np.load(vectors_file) as found:
        return dict(found), about


def cosines_of(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(n,) of the rows of two (n, D) matrices, in double precision.

    Raises:
        NotRun: they differ in shape, or hold what is no number.
    """
    if found.shape != expected.shape:
        raise NotRun(f"it gives {found.shape} where {expected.shape} are right")
    a, b = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines: np.ndarray = np.einsum("nd,nd->n", a, b) / lengths
    if not np.isfinite(cosines).all():
        raise NotRun("its vectors are not finite")
    return cosines


def judge(cosines: np.ndarray | None, is_long: np.ndarray, *, is_int8: bool) -> str:
    """A cell: equal, or how far from it; texts beyond the limit by themselves, because tools cut
    them in different ways.

    Args:
        cosines: (n,) with leafkit's vectors; None where there are none.
        is_long: (n,) whether a text is longer than the model's limit.
        is_int8: the vectors are an int8 graph's, which are never equal.
    """
    if cosines is None:
        return ""
    smallest, of_long = cosines[~is_long].min(), cosines[is_long].min(initial=1.0)
    if is_int8:
        return f"{min(smallest, of_long):.4f} (int8)"
    if smallest < EQUAL:
        return f"**{_down(min(smallest, of_long))}**"
    return "equal" if of_long >= EQUAL else f"equal; **{_down(of_long)}** beyond the limit"


def _down(cosine: float) -> str:
    """Rounded down: what is not equal must not read as if it were."""
    return f"{np.floor(1e6 * cosine) / 1e6:.6f}"


def row_of(
    check: Check,
    options: argparse.Namespace,
    job: Mapping[str, Any],
    expected: Mapping[str, np.ndarray],
    *,
    work: Path,
) -> list[str]:
    """The line of one check."""
    try:
        if check.folder not in job["folders"]:
            raise NotRun(f"the folder {check.folder} is not exported")
        interpreter = find_interpreter(check.tool, options)
        found, about = run_check(check, interpreter, work / "job.json", work)
        cosines = {
            role: cosines_of(found[role], expected[role])
            for role in ("queries", "documents")
            if role in found and role in expected
        }
    except NotRun as reason:
        return [check.name, "", check.folder, "", f"not run: {reason}", ""]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    is_long = np.array(job["is_long"])
    none = np.zeros(len(job["documents"]), dtype=bool)
    cells = [
        judge(cosines.get(role), mask, is_int8=check.is_int8)
        for role, mask in (("queries", is_long), ("documents", none))
    ]
    return [check.name, versions, check.folder, about["prompt"], *cells]


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = make_parser(__doc__, can_print=True)
    parser.add_argument("--pair", type=Path, required=True, help="folder of a finished recipe")
    parser.add_argument("--exported", type=Path, help="folder of an export")
    parser.add_argument("--make-environments", type=Path, metavar="DIR")
    parser.add_argument("--python", action="append", default=[], metavar="TOOL=PATH")
    parser.add_argument("--only", nargs="+", choices=TOOLS, help="tools to run")
    options = parser.parse_args()
    named = [word.partition("=") for word in options.python]
    if unknown := [name for name, _, path in named if name not in TOOLS or not path]:
        parser.error(f"--python {unknown[0]}: TOOL=PATH, with a tool of {', '.join(TOOLS)}")
    options.python = {name: Path(path).absolute() for name, _, path in named}
    return options


def main() -> None:
    """Run every tool that can be run, and write the report."""
    options = read_options()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        folders = export_folders(options, work)
        job, expected = make_job(options, folders)
        (work / "job.json").write_text(json.dumps(job), encoding="utf-8")
        rows = []
        for check in CHECKS:
            if options.only and check.tool not in options.only:
                continue
            rows.append(row_of(check, options, job, expected, work=work))
            print(" | ".join(rows[-1]), flush=True)
    lines = [
        *title("Exported folders in other tools"),
        f"{command()}, {describe('torch', python=True)}.",
        f"{len(job['queries'])} queries and {len(job['documents'])} documents, letters beyond "
        "ASCII, odd spaces and a text beyond the limit among them. Equal: the smallest cosine with "
        "leafkit's own vectors in float32 is at least 1 - 1e-6; else it is stated, as that of int8 "
        f"graphs always is. {job['dim']} dimensions, prompt {job['prompt']!r}: how the tool came "
        "by it stands in the table.",
        "",
        *table(["tool", "versions", "folder", "prompt", "queries", "documents"], rows),
        "text-embeddings-inference has no build that pip brings: its demands on the folder are a "
        "test.",
        "",
    ]
    publish(lines, "compatibility", print_only=options.print_only)


if __name__ == "__main__":
    main()
