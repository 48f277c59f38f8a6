"""Millions of texts: memory and time of tokenizing, storing, reading and training as their number
grows.

    python benchmarks/million_texts.py [--texts 30000 100000 300000 1000000] [--steps 500]

Texts of 64 tokens with random targets of 768 dimensions, made for the purpose. Every size runs in a
process of its own: token ids are written to files and mapped, targets committed to a vector store,
both read once in the order of a shuffled epoch, and a student trained on them: for all of the steps
at the largest size, for a fifth of them at the others.
Memory counts from where the model is loaded and has taken a step. FOLDER holds 1.8 KB a text for
the time of the run. Writes a dated report.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from growth import exponent
from lib.arguments import make_parser
from lib.children import median, take_turns
from lib.machine import describe
from lib.report import command, publish, table, title

from leafkit.core.system import resident_mib

LENGTH, DIM, BATCH = 64, 768, 64  # tokens of a text, dimensions, texts of a batch that is read
NUM_WORDS = 4096  # that texts are made of, each a token
_PART = 8192  # texts that are made together
SIZES = [30_000, 100_000, 300_000, 1_000_000]
TIMED = {
    "tokenize_s": "tokenizing",
    "store_s": "storing",
    "open_s": "opening",
    "read_s": "reading",
}
BARRED = ("tokenize_s", "store_s", "read_s")  # whose exponents have a bar
BAR_MIB, BAR_EXPONENT = 3 * 1024, 1.02
FEWER_STEPS = 5  # times, where there are fewer texts: a step's time needs no more of them


def make_texts(tokenizer: Any, count: int) -> list[str]:
    """Texts of ``LENGTH`` tokens, special ones included, of random whole words."""
    words = sorted(w for w in tokenizer.get_vocab() if w.isascii() and w.isalpha() and len(w) > 2)
    generator, texts = np.random.default_rng(0), list[str]()
    # in parts: the numbers of all words would weigh more than what is measured
    for start in range(0, count, _PART):
        shape = min(_PART, count - start), LENGTH - 2
        chosen = generator.integers(0, min(NUM_WORDS, len(words)), shape)
        texts += [" ".join(words[i] for i in row) for row in chosen]
    return texts


def make_targets(number: int, rows: int) -> np.ndarray:
    """(rows, DIM) float16 unit vectors of shard ``number``; each shard has its own."""
    found = np.random.default_rng(number).standard_normal((rows, DIM), dtype=np.float32)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


class Peak:
    """The most memory that this process holds by itself, files that it maps left out.

    Attributes:
        most_mib: so far.
    """

    def __init__(self) -> None:
        self.most_mib = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look every few milliseconds, within."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(0.02):
                self.most_mib = max(self.most_mib, resident_mib())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            self.most_mib = max(self.most_mib, resident_mib())


def make_student(is_tiny: bool) -> Any:
    """The default start with W_out onto ``DIM``; a tiny one shows that the script works."""
    from torch import nn

    from leafkit.models.checkpoint import load_encoder
    from leafkit.models.text_encoder import TextEncoder
    from leafkit.models.tiny import tiny_encoder

    start = load_encoder("builtin:minilm")
    if is_tiny:
        start = tiny_encoder("bert", start.tokenizer, seed=0)
    projection = nn.Linear(start.hidden_size, DIM)
    return TextEncoder(start.backbone, start.tokenizer, start.spec, projection)


def train(
    student: Any, tokens: Any, texts: list[str], store: Any, *, num_steps: int
) -> list[float]:
    """The recipe's own training on one group of documents; the loss of every step."""
    import torch

    from leafkit.config import StudentConfig
    from leafkit.pipeline.student.targets import Target
    from leafkit.pipeline.student.transformer import train_student
    from leafkit.train.trainer_options import TrainerOptions

    config = StudentConfig()
    # a share of an epoch, of whose batches each is filled with texts of one length
    per_batch = min(config.max_texts_per_batch, config.tokens_per_batch // LENGTH)
    epochs = num_steps / -(-len(texts) // per_batch)
    task = SimpleNamespace(
        targets=[Target(texts, "document", store)],
        config=StudentConfig(num_epochs=epochs, num_checks=0),
        device=torch.device("cpu"),
        precision=torch.float32,
        seed=0,
        options=lambda training: TrainerOptions(),
    )
    return train_student(student, task, [tokens]).losses


def measure(count: int, num_steps: int, folder: Path, is_tiny: bool) -> dict[str, float]:
    """Seconds and memory of one number of texts."""
    from leafkit.data.stored.flat_tokens import open_tokens, write_tokens
    from leafkit.data.vector_store import Space, VectorStore
    from leafkit.embedders.token_reader import reader_of

    student, peak, found = make_student(is_tiny), Peak(), {}
    # the optimizer's state and all libraries are there before anything is counted
    few = make_texts(student.tokenizer, 256)
    reader = reader_of(student, "document", LENGTH)
    write_tokens(folder / "few", "few", reader.read_parts(few))
    warm = open_tokens(folder / "few", "few", len(few))
    assert warm is not None
    assert set(warm.lengths.tolist()) == {LENGTH}
    train(student, warm, few, make_targets(0, len(few)), num_steps=2)
    base_mib = resident_mib()

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        found[name] = time.perf_counter() - started_s

    with peak.watched():
        texts = make_texts(student.tokenizer, count)
        found["texts_mib"] = resident_mib() - base_mib
        with timed("tokenize_s"):
            write_tokens(folder / "tokens", "made", reader.read_parts(texts))
        with timed("store_s"):
            space = Space(
                teacher="made",
                dim=DIM,
                prompt="",
                max_tokens=LENGTH,
                pooling="mean",
                normalized=True,
            )
            store, making_s = VectorStore(folder / "store", space, texts), 0.0
            for shard in store.missing():
                started_s = time.perf_counter()
                vectors = make_targets(shard.number, shard.stop - shard.start)
                making_s += time.perf_counter() - started_s
                store.write(shard, vectors)
        found["store_s"] -= making_s
        with timed("open_s"):
            tokens = open_tokens(folder / "tokens", "made", count)
            store = VectorStore(folder / "store", space, texts)
            assert store.missing() == []
        assert tokens is not None
        order = np.random.default_rng(0).permutation(count)
        with timed("read_s"):
            total = 0.0
            for start in range(0, count, BATCH):
                rows = np.sort(order[start : start + BATCH])
                ids = np.concatenate([tokens[int(r)] for r in rows])
                total += float(ids[0]) + float(store[rows][0, 0])
        with timed("train_s"):
            found["steps"] = len(train(student, tokens, texts, store, num_steps=num_steps))
    sizes = [path.stat().st_size for path in folder.glob("tokens/*")]
    vectors = [path.stat().st_size for path in folder.glob("store/*")]
    return found | {
        "own_mib": peak.most_mib - base_mib,
        "mapped_mib": resident_mib("RssFile"),
        "base_mib": base_mib,
        "token_bytes": sum(sizes) / count,
        "vector_bytes": sum(vectors) / count,
        "check": total,
    }


def judge_exponent(key: str, sizes: Sequence[int], seconds: Sequence[float]) -> str:
    """The exponent of a phase, with a word where it is above its bar.

    >>> judge_exponent("read_s", [10, 100], [1.0, 11.0])
    '1.041 **missed**'
    """
    power = exponent([float(n) for n in sizes], list(seconds))
    return f"{power:.3f}" + " **missed**" * (key in BARRED and power > BAR_EXPONENT)


def make_report(found: dict[int, Sequence[dict[str, float]]], turns: int) -> list[str]:
    """Tables of seconds and memory, and what the bars say."""
    sizes = list(found)
    seconds = {key: [median(found[n], key) for n in sizes] for key in TIMED}
    rows = []
    for key, name in TIMED.items():
        power = judge_exponent(key, sizes, seconds[key]) if sizes[1:] else ""
        rows.append([name, *(f"{s:,.2f}" for s in seconds[key]), power])
    steps = [median(found[n], "train_s") / median(found[n], "steps") for n in sizes]
    rows.append(["training, per step", *(f"{s:.3f}" for s in steps), ""])
    names = {
        "own_mib": "held over the model, at most, MiB",
        "texts_mib": "of that the texts as Python strings, MiB",
        "mapped_mib": "pages of mapped files at the end, MiB",
        "base_mib": "model, optimizer and libraries, MiB",
        "token_bytes": "token files, bytes a text",
        "vector_bytes": "vector store, bytes a text",
        "steps": "training steps",
    }
    memory = [
        [name, *(f"{median(found[n], key):,.0f}" for n in sizes)] for key, name in names.items()
    ]
    heads = [f"{n:,}" for n in sizes]
    most = median(found[sizes[-1]], "own_mib")
    per_text = 0.0
    if sizes[1:]:
        grown = most - median(found[sizes[0]], "own_mib")
        per_text = grown * 2**20 / (sizes[-1] - sizes[0])
    return [
        *title("Millions of texts"),
        f"{command()}, {describe('numpy', 'torch', 'tokenizers')}, float32. Texts of {LENGTH} "
        f"tokens, targets of {DIM} dimensions, both made for the purpose. Medians of {turns} "
        f"run(s), each in a process of its own. Reading is every text once, in shuffled batches "
        f"of {BATCH}. The "
        "exponent is the slope of log seconds over log texts, by least squares: 1 is linear.",
        "",
        "## Seconds",
        "",
        *table(["", *heads, "exponent"], rows),
        "",
        "## Memory and disk",
        "",
        *table(["", *heads], memory),
        "",
        f"{most:,.0f} MiB over the model with {sizes[-1]:,} texts (bar: {BAR_MIB:,} MiB with a "
        f"million, {'reached' if most <= BAR_MIB else '**missed**'}); each further text takes "
        f"{per_text:,.0f} bytes of memory. Bar of the exponents, of tokenizing, storing and "
        f"reading: {BAR_EXPONENT}.",
        "",
        f"Load average at the end: {os.getloadavg()[0]:.1f}.",
        "",
    ]


def main() -> None:
    """Measure every size and write the report; with --child, one size as JSON."""
    parser = make_parser(__doc__, turns=1, can_print=True)
    parser.add_argument("--texts", type=int, nargs="+", default=SIZES)
    parser.add_argument("--steps", type=int, default=500, help="training steps")
    parser.add_argument(
        "--folder", help="where the files lie meanwhile; a temporary one unless said"
    )
    parser.add_argument("--tiny", action="store_true", help="a student of two narrow layers")
    parser.add_argument("--child", type=int, metavar="TEXTS")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.child:
            print(json.dumps(measure(options.child, options.steps, Path(folder), options.tiny)))
            return
    found: dict[int, Sequence[dict[str, float]]] = {}
    for count in sorted(options.texts):
        is_largest = count == max(options.texts)
        steps = options.steps if is_largest else max(1, options.steps // FEWER_STEPS)
        words = ["--child", str(count), "--steps", str(steps)]
        words += ["--tiny"] * options.tiny
        words += ["--folder", options.folder] if options.folder else []
        (found[count],) = take_turns(__file__, {f"{count:,} texts": words}, options.turns).values()
    publish(make_report(found, options.turns), "million_texts", print_only=options.print_only)


if __name__ == "__main__":
    main()
