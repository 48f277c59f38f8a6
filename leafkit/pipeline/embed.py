"""Vectors of texts, computed once per encoder and text and kept in stores under
checkpoints/vectors.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.checkpoint_layout import CUT_FILE, MADE_FILE, VECTORS_FOLDER
from leafkit.core.console import log
from leafkit.core.disk_space import require_space
from leafkit.core.method import method_of
from leafkit.core.watch import watch_tree
from leafkit.data.prefix_vectors import PrefixVectors, StoredVectors
from leafkit.data.records import Query
from leafkit.data.vector_store import VectorStore, hash_texts
from leafkit.embedders.count_cut import count_cut
from leafkit.embedders.distinct import check_distinct
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.prompted import prompted_queries
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.pipeline.run import Run
from leafkit.results import CutTexts

_LOCAL = (TransformerEmbedder, LookupTableEmbedder)  # whose vectors the code here decides about


def load_query_vectors(
    run: Run,
    model: Embedder,
    name: str,
    queries: Sequence[Query],
    *,
    max_tokens: int,
    what: str,
) -> StoredVectors:
    """``load_vectors`` of queries, each under its own instruction where it has one."""
    texts, role = prompted_queries(model, queries, f"{what}, {name}")
    return load_vectors(run, model, name, texts, role=role, max_tokens=max_tokens, what=what)


def load_vectors(
    run: Run,
    model: Embedder,
    name: str,
    texts: Sequence[str],
    *,
    role: str,
    max_tokens: int,
    what: str,
) -> StoredVectors:
    """The store with the vectors of ``texts``; what it lacks is computed, shared among the
    processes.

    Args:
        run: this run.
        model: whatever gives the vectors.
        name: what the model is called in folder names and messages.
        texts: in order.
        role: "query", "document" or ``PROMPTED``; decides about the prompt.
        max_tokens: cut of the texts.
        what: what the texts are, for messages ("pydocs documents").

    Returns:
        The store; of a model at its first dimensions those of the whole model's store.

    Raises:
        LeafkitError: the store is damaged or belongs to something else, a vector is not finite, or
            a text has none.
    """
    if isinstance(model, PrefixEmbedder):
        whole = load_vectors(
            run, model.whole, name, texts, role=role, max_tokens=max_tokens, what=what
        )
        return PrefixVectors(whole, model.dim)
    model.require(texts, role)
    space = model.space(role, max_tokens)
    maker = (
        [space.teacher]
        if model.fingerprint == space.teacher
        else [space.teacher, model.fingerprint]
    )
    # other vectors were computed elsewhere, perhaps for money: new code is no reason to ask again
    methods = [method_of(kind) for kind in _LOCAL if isinstance(model, kind)]
    content = hash_texts(texts).tobytes().hex()
    identity = fingerprint(
        [*maker, space.prompt, space.max_tokens, model.precision, methods, content]
    )
    store = VectorStore(_find_store(run, name, f"{role}-{identity}"), space, texts)
    missing = store.missing()
    num_bytes = sum(shard.stop - shard.start for shard in missing) * store.bytes_per_row
    require_space(run.root, num_bytes, f"the {name} vectors of {what}")
    started_s = time.perf_counter()
    title = f"{name} vectors of {what}"
    with run.turn(store.folder):
        computed = fill_store(
            store, model, texts, role, title=title, rank=run.world.rank, num_ranks=run.world.size
        )
        run.barrier()
        if computed:
            check_distinct(texts, store, title)
        run.on_main(lambda: _say_cut(run, store, model, texts, role=role, name=name, what=what))
        if computed and run.is_main:
            _add_time(store, time.perf_counter() - started_s)
    watch_tree(store.folder)
    if not computed:
        log(f"{title}: up to date ({store.folder})", style="dim")
    made_s = _kept_time(store)
    run.add_step(title, store.folder, started_s, is_done=bool(computed), made_s=made_s)
    return store


def _find_store(run: Run, name: str, identity: str) -> Path:
    """Where these vectors are, be it under another name of the same model: a teacher that is the
    baseline too embeds once.
    """
    root = run.root / VECTORS_FOLDER
    own = root / f"{name}-{identity}"
    others = () if own.is_dir() else sorted(root.glob(f"*-{identity}"))
    return next(iter(others), own)


def _say_cut(
    run: Run,
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    *,
    role: str,
    name: str,
    what: str,
) -> None:
    """Note what the model did not read of the texts, and say it; counted once per store, and not
    for what cuts by a rule of its own, as an endpoint does.
    """
    if model.encoder is None or not store.folder.is_dir():
        return
    path = store.folder / CUT_FILE
    try:
        found = CutTexts.from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not counted yet, or by another version
        found = count_cut(model.encoder, texts, role, store.space.max_tokens, model=name, what=what)
        write_durably(path, json.dumps(found.to_plain()).encode())
    run.note_cut(found)


def _add_time(store: VectorStore, seconds: float) -> None:
    """Note how long the vectors took, for reports of later runs; a store that was resumed has the
    time of all its runs.
    """
    total_s = round(seconds + (_kept_time(store) or 0.0), 3)
    write_durably(store.folder / MADE_FILE, json.dumps({"seconds": total_s}).encode())


def _kept_time(store: VectorStore) -> float | None:
    """Seconds that the store's vectors took; None where nobody noted it."""
    try:
        found = json.loads((store.folder / MADE_FILE).read_text(encoding="utf-8"))["seconds"]
        return float(found)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # no figure of quality hangs on it
