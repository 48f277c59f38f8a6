"""One process that embeds, or two: what does a second worker bring, and what does Ray cost?

    python benchmarks/embed_workers.py [--turns 3] [--texts 8192] [--ray-python PATH]

`leafkit embed` fills a fresh store from the same texts, in turns, by one process of one thread, by
two under torchrun, by two commands that share the store, by two workers of Ray (PATH is an
interpreter with Ray), and by two commands that share nothing, half of the texts each: as fast as
two processes can be on this machine. All must give the same vectors, to the bit.

The whole command counts, with imports, models and launch, and so does encoding alone: from the
first shard begun, when its claim was written into the store's folder, to the last one committed,
when its record was. Both are times of these files; the claims go at the end, and are looked for
all the while. The defaults are sized for about a minute of one process where the processor has
bf16. Writes a dated report; status 1 where vectors differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from lib.arguments import make_parser
from lib.children import Figures, median, ratio, ratios, take_turns
from lib.machine import describe
from lib.pinned import thread_variables
from lib.report import command, publish, table, title

ONE, TORCHRUN = "one process", "torchrun, two processes"
TWO, RAY = "two commands, one store", "Ray, two workers"
APART = "two commands that share nothing"
BAR_TORCHRUN, BAR_RAY = 1.8, 1.1
CORPUS, NUM_TEXTS, FEWEST = "builtin:pydocs", 8192, 256
CUT = 64  # tokens of a text
_LOOK_EVERY_S = 0.02  # for the first claim
_ROOT = Path(__file__).parents[1]
_TEXTS_FILE = "texts-{}.jsonl"  # all of them, or a half
_ALL = "all"


def write_texts(options: argparse.Namespace) -> None:
    """The texts of all ways, and each half of them, as files.

    Raises:
        SystemExit: the corpus has fewer.
    """
    if options.tiny:
        texts = [f"Text {i} is about the number {i * i}." for i in range(options.texts)]
    else:
        from leafkit.config import DataConfig
        from leafkit.data.sources import read_collection

        found = [d.full_text for d in read_collection(options.corpus, DataConfig()).documents]
        if len(found) < options.texts:
            sys.exit(f"{options.corpus} has {len(found):,} documents: --texts {len(found)}")
        rows = np.random.default_rng(0).permutation(len(found))[: options.texts]
        texts = [found[row] for row in rows]
    parts = {_ALL: texts, "0": texts[0::2], "1": texts[1::2]}
    for name, part in parts.items():
        lines = [json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(part)]
        (options.folder / _TEXTS_FILE.format(name)).write_text("".join(lines), encoding="utf-8")


def commands_of(
    way: str, options: argparse.Namespace, folder: Path
) -> tuple[list[list[str]], list[Path]]:
    """The command lines of a way, and the checkpoints folders that they fill."""

    def embed(root: Path, part: str = _ALL, *words: str) -> list[str]:
        texts = options.folder / _TEXTS_FILE.format(part)
        chosen = {
            "recipe": "own-data",
            "data.corpus": f"jsonl:{texts}",
            "data.max_document_tokens": str(CUT),
            "teacher.source": options.teacher,
            "device": "cpu",
            "precision": options.precision,
            "checkpoints": str(root),
        }
        return ["leafkit.cli", "embed", *(f"{k}={v}" for k, v in chosen.items()), *words]

    root, python = folder / "store", [sys.executable, "-m"]
    if way == ONE:
        return [[*python, *embed(root)]], [root]
    if way == TORCHRUN:
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
        return [[*python, *launcher, *embed(root)]], [root]
    if way == TWO:
        return [[*python, *embed(root)]] * 2, [root]
    if way == RAY:
        words = embed(root, _ALL, "embed.engine=ray", "embed.num_workers=2")
        return [[options.ray_python, "-m", *words]], [root]
    halves = {part: folder / f"store-{part}" for part in ("0", "1")}
    return [[*python, *embed(at, part)] for part, at in halves.items()], list(halves.values())


def measure(way: str, options: argparse.Namespace) -> Figures:
    """Run a way's commands to their end; seconds, shards and the hash of all vectors.

    Raises:
        SystemExit: a command failed, with the end of what it said.
    """
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        commands, roots = commands_of(way, options, folder)
        logs = [folder / f"{number}.log" for number in range(len(commands))]
        variables = os.environ | thread_variables(1) | {"PYTHONPATH": str(_ROOT)}
        variables.pop("RAY_ADDRESS", None)  # a cluster of its own
        started_s, started_at = time.perf_counter(), time.time()
        children = []
        for words, log in zip(commands, logs, strict=True):
            with log.open("wb") as stream:
                children.append(
                    subprocess.Popen(words, stdout=stream, stderr=stream, env=variables)
                )
        begun_at = first_claim(children, roots)
        statuses = [child.wait() for child in children]
        whole_s = time.perf_counter() - started_s
        for status, log in zip(statuses, logs, strict=True):
            if status:
                told = log.read_text(encoding="utf-8", errors="replace")
                raise SystemExit(f"{way}: status {status}: {told[-3000:]}")
        if not begun_at:
            raise SystemExit(f"{way}: no shard was seen to begin: too few texts to time")
        records = [p for root in roots for p in root.glob("vectors/*/[0-9]*.json")]
        ended_at = max(path.stat().st_mtime for path in records)
        return {
            "whole_s": whole_s,
            "start_s": begun_at - started_at,
            "encoding_s": ended_at - begun_at,
            "shards": len(records),
            "sha256": hashlib.sha256(read_vectors(roots).data).hexdigest(),
        }


def first_claim(children: Sequence[subprocess.Popen[bytes]], roots: Sequence[Path]) -> float:
    """When the first shard was begun, in seconds of the clock; 0 where all ended before one was
    seen.
    """
    while any(child.poll() is None for child in children):
        found = []
        for path in [p for root in roots for p in root.glob("vectors/*/.*.claim")]:
            with suppress(FileNotFoundError):
                found.append(path.stat().st_mtime)
        if found:
            return min(found)
        time.sleep(_LOOK_EVERY_S)
    return 0.0


def read_vectors(roots: Sequence[Path]) -> np.ndarray:
    """(N, D) float16 as they are stored, in the order of the texts, of which each folder has every
    second one where there are two.
    """
    parts = []
    for root in roots:
        (store,) = (root / "vectors").iterdir()
        dim = json.loads((store / "00000.json").read_text(encoding="utf-8"))["space"]["dim"]
        shards = [np.fromfile(path, dtype="<f2") for path in sorted(store.glob("*.vectors"))]
        parts.append(np.concatenate(shards).reshape(-1, dim))
    whole = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype="<f2")
    for number, part in enumerate(parts):
        whole[number :: len(parts)] = part
    return whole


def judge(value: float, bar: float, *, is_least: bool) -> str:
    """Whether a bar is reached.

    >>> judge(1.84, 1.8, is_least=True), judge(1.2, 1.1, is_least=False)
    ('1.84 (bar: at least 1.8, reached)', '1.20 (bar: at most 1.1, **missed**)')
    """
    is_reached = value >= bar if is_least else value <= bar
    words = f"at {'least' if is_least else 'most'} {bar}"
    return f"{value:.2f} (bar: {words}, {'reached' if is_reached else '**missed**'})"


def make_report(found: Mapping[str, Sequence[Figures]], num_texts: int) -> list[str]:
    """The table, and what it says of the bars and of the bits."""
    one = found[ONE]
    rows = [
        [
            way,
            f"{median(runs, 'whole_s'):.1f}",
            f"{median(runs, 'start_s'):.1f}",
            f"{median(runs, 'encoding_s'):.1f}",
            f"{num_texts / median(runs, 'encoding_s'):,.0f}",
            f"{median(runs, 'shards'):.0f}",
            ratio(one, runs, "whole_s"),
            ratio(one, runs, "encoding_s"),
        ]
        for way, runs in found.items()
    ]
    gain, ceiling = (ratios(one, found[way], "encoding_s")[0] for way in (TORCHRUN, APART))
    told = [
        f"Two processes under torchrun encode {judge(gain, BAR_TORCHRUN, is_least=True)} times as "
        f"fast as one; two that share nothing {ceiling:.2f} times, which is what this machine has "
        "for two."
    ]
    if RAY in found:
        encoding, whole = (
            ratios(found[RAY], found[TORCHRUN], key)[0] for key in ("encoding_s", "whole_s")
        )
        told.append(
            f"Ray's workers take {judge(encoding, BAR_RAY, is_least=False)} times torchrun's time "
            f"to encode; the whole command, with a cluster that is started for it, {whole:.2f} "
            "times."
        )
    else:
        told.append("Ray was not measured: `--ray-python` names an interpreter that has it.")
    if are_equal(found):
        told.append("All vectors of all ways and turns are equal to the bit.")
    else:
        each = (f"{way}: {', '.join(sorted(hashes(runs)))}" for way, runs in found.items())
        told.append(f"**Vectors differ**, by their hashes: {'; '.join(each)}.")
    heads = ["", "whole, s", "to the first shard, s", "encoding, s", "texts/s", "shards"]
    return [
        *table([*heads, "whole: times one process", "encoding: times one process"], rows),
        " ".join(told),
        "",
    ]


def hashes(runs: Sequence[Figures]) -> set[str]:
    """Of the vectors of each turn."""
    return {run["sha256"][:12] for run in runs}


def are_equal(found: Mapping[str, Sequence[Figures]]) -> bool:
    """Whether every way gave the same vectors in every turn."""
    return len(set[str]().union(*map(hashes, found.values()))) == 1


def describe_ray(python: str) -> str:
    """Versions of an interpreter with Ray, which must have this one's torch.

    Raises:
        SystemExit: it lacks Ray or what leafkit needs, or has another torch.
    """
    import torch

    script = "import leafkit, ray, torch; print(ray.__version__, torch.__version__)"
    done = subprocess.run(
        [python, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(_ROOT)},
    )
    if done.returncode:
        sys.exit(f"--ray-python {python} does not do: {done.stderr[-1000:]}")
    ray_version, torch_version = done.stdout.split()[-2:]
    if torch_version != torch.__version__:
        sys.exit(f"--ray-python {python} has torch {torch_version}, this one {torch.__version__}")
    return f", ray {ray_version}"


def main() -> int:
    """Let the ways take turns and write the report; with --child, run one way once."""
    parser = make_parser(__doc__, turns=3, can_print=True)
    parser.add_argument("--texts", type=int, help=f"how many; {NUM_TEXTS:,} unless said")
    parser.add_argument("--corpus", help=f"jsonl:FILE, beir:FOLDER, ...; {CORPUS} unless said")
    parser.add_argument("--teacher", default="builtin:minilm", help="as teacher.source takes it")
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--ray-python", help="an interpreter with Ray and leafkit's packages")
    parser.add_argument("--folder", type=Path, help="for stores; a temporary one unless said")
    parser.add_argument(
        "--tiny", action="store_true", help=f"{FEWEST} made texts, no figures of worth"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return 0
    os.environ["HF_HUB_OFFLINE"] = "1"
    if options.tiny and (options.texts or options.corpus):
        parser.error("--tiny makes its own texts: leave --texts and --corpus out")
    options.corpus = options.corpus or CORPUS
    options.texts = FEWEST if options.tiny else options.texts or NUM_TEXTS
    if options.texts < FEWEST:
        parser.error(f"--texts {options.texts}: at least {FEWEST}")
    machine = describe("torch") + (describe_ray(options.ray_python) if options.ray_python else "")
    from leafkit.models.precision import choose_device, choose_precision
    from leafkit.pipeline.run import folder_name

    # one choice for all processes
    chosen = choose_precision(options.precision, choose_device("cpu"))
    precision = {"torch.bfloat16": "bf16"}.get(str(chosen), "float32")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        options.folder = Path(name)
        write_texts(options)
        words = ["--folder", name, "--teacher", options.teacher, "--precision", precision]
        words += ["--ray-python", options.ray_python] if options.ray_python else []
        ways = [ONE, TORCHRUN, TWO, *([RAY] if options.ray_python else []), APART]
        found = take_turns(
            __file__,
            {way: ["--child", way, *words] for way in ways},
            options.turns,
            is_alternating=True,
        )
    origin = "made for the purpose" if options.tiny else f"drawn from {folder_name(options.corpus)}"
    lines = [
        *title("Embedding by several workers"),
        f"{command()}, {machine}, {precision}, one thread in each process. {options.texts:,} texts "
        f"{origin}, cut at {CUT} tokens, teacher {folder_name(options.teacher)}. Medians of "
        f"{options.turns} turn(s), each with a fresh store; ratios of the same turn, with the "
        "smallest and the largest.",
        "",
        *make_report(found, options.texts),
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        "",
    ]
    publish(lines, "embed_workers", print_only=options.print_only)
    return 0 if are_equal(found) else 1


if __name__ == "__main__":
    sys.exit(main())
