"""Vectors and token ids of texts, computed once and kept: vectors per encoder and text in stores
under checkpoints/vectors, token ids of long lists of texts under checkpoints/tokens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from leafkit.core.artifact import fingerprint, write_durably
from leafkit.core.checkpoint_layout import (
    CUT_FILE,
    MADE_FILE,
    MAKER_FILE,
    TOKENS_FOLDER,
    VECTORS_FOLDER,
)
from leafkit.core.console import log, progress_bar
from leafkit.core.disk_space import require_space
from leafkit.core.errors import LeafkitError, explain_write_errors
from leafkit.core.method import method_of
from leafkit.core.watch import watch_tree
from leafkit.data.records import Query
from leafkit.data.stored.flat_tokens import FlatTokens, open_tokens, write_tokens
from leafkit.data.stored.kept_rows import KeptRows
from leafkit.data.stored.prefix_vectors import PrefixVectors, StoredVectors
from leafkit.data.stored.shard_plan import settle_rows_per_shard
from leafkit.data.vector_store import Shard, Space, VectorStore, hash_texts
from leafkit.embedders.count_cut import count_cut
from leafkit.embedders.distinct import check_distinct
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.prefix import PrefixEmbedder
from leafkit.embedders.prompted import prompted_queries
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.ray_engine import fill_by_ray
from leafkit.embedders.token_reader import TokenReader, read_flat
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.pipeline.run import Run
from leafkit.results import CutTexts

_LOCAL = (TransformerEmbedder, LookupTableEmbedder)  # whose vectors the code here decides about
_FEWEST_KEPT = 8192  # texts whose token ids are worth a file: fewer are read in a second


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
    """The store with the vectors of ``texts``; what it lacks is copied from stores of other texts
    of the same maker, where these have it, and else computed, shared among the processes.

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
    decides = [*maker, space.prompt, space.max_tokens, model.precision, methods]
    content = hash_texts(texts).tobytes().hex()
    identity = fingerprint([*decides, content])
    folder = run.on_main(lambda: _find_store(run, name, f"{role}-{identity}"))
    started_s = time.perf_counter()
    title = f"{name} vectors of {what}"
    with run.turn(folder):
        store, missing = _agree(run, folder, space, texts)
        kept = _find_kept(run, store, missing, fingerprint([role, *decides]), title=title)
    num_bytes = sum(shard.stop - shard.start for shard in missing) * store.bytes_per_row
    require_space(run.root, num_bytes, f"the {name} vectors of {what}")
    own = _fill(run, store, model, texts, role=role, title=title, missing=missing, kept=kept)
    computed = run.total(own)
    num_reused = run.total(kept.num_taken if kept else 0)

    def finish() -> None:
        # of a whole store too: the run that filled it may have been killed, or refused it here
        check_distinct(texts, store, title, are_stored=not computed)
        _say_cut(run, store, model, texts, role=role, name=name, what=what)
        if computed:
            _add_time(store, time.perf_counter() - started_s, num_reused)

    with run.turn(folder):
        run.on_main(finish)
    watch_tree(store.folder)
    if not computed:
        log(f"{title}: up to date ({store.folder})", style="dim")
    made = _read_made(store)
    run.add_step(
        title,
        store.folder,
        started_s,
        is_done=bool(computed),
        made_s=made.get("seconds"),
        reused=int(made.get("reused", 0)),
    )
    return store


def _fill(
    run: Run,
    store: VectorStore,
    model: Embedder,
    texts: Sequence[str],
    *,
    role: str,
    title: str,
    missing: Sequence[Shard],
    kept: KeptRows | None,
) -> int:
    """Compute what a store lacks, by the engine of the recipe; number of vectors computed here."""
    engine = run.recipe.embed
    num_done = 0
    if engine.engine == "ray" and isinstance(model, TransformerEmbedder) and missing:
        if not run.is_main:
            return 0  # the workers are told by one process
        num_done = fill_by_ray(
            store,
            model,
            texts,
            role,
            title=title,
            missing=missing,
            num_workers=engine.num_workers,
            kept=kept,
        )
        missing = [shard for shard in missing if not store.has(shard)]
        # what is left, another command has claimed: wait for it
    return num_done + fill_store(
        store,
        model,
        texts,
        role,
        title=title,
        missing=missing,
        rank=run.world.rank,
        num_ranks=run.world.size,
        kept=kept,
        look=run.look,
    )


def _agree(
    run: Run, folder: Path, space: Space, texts: Sequence[str]
) -> tuple[VectorStore, list[Shard]]:
    """The store in a folder, and what it lacks as the first process sees it: what is dealt among
    all must be one list, and the others may find less missing once the first one is at work.
    """
    stores: list[VectorStore] = []

    def look() -> tuple[int, list[Shard]]:
        num_rows = settle_rows_per_shard(folder, len(texts), run.world.size)
        stores.append(VectorStore(folder, space, texts, rows_per_shard=num_rows))
        return num_rows, stores[0].missing()

    num_rows, missing = run.on_main(look)
    stores = stores or [VectorStore(folder, space, texts, rows_per_shard=num_rows)]
    return stores[0], missing


def _find_kept(
    run: Run, store: VectorStore, missing: Sequence[Shard], maker: str, *, title: str
) -> KeptRows | None:
    """What other stores hold of the texts that a store lacks; None where it lacks nothing, or they
    hold nothing.

    Args:
        run: this run.
        store: whose folder gets the maker's mark, by which later stores find it.
        missing: what it lacks.
        maker: identity of what decides about the vectors beside the texts.
        title: names model and texts.
    """

    def look() -> list[str]:
        mark = store.folder / MAKER_FILE
        if len(store) and _read_json(mark).get("maker") != maker:
            with explain_write_errors(store.folder):
                store.folder.mkdir(parents=True, exist_ok=True)
            write_durably(mark, json.dumps({"maker": maker}).encode())
        marks = sorted((run.root / VECTORS_FOLDER).glob(f"*/{MAKER_FILE}")) if missing else []
        others = [path for path in marks if path.parent != store.folder]
        return [str(path.parent) for path in others if _read_json(path).get("maker") == maker]

    folders = run.on_main(look)
    if not folders:
        return None
    wanted = np.concatenate([store.hashes(shard) for shard in missing])
    kept = KeptRows(map(Path, folders), store.space, store.dtype, wanted)
    if not kept.num_found:
        return None
    log(
        f"  {title}: {kept.num_found:,} of {len(wanted):,} are in {kept.num_stores:,} other stores "
        "and copied"
    )
    return kept


def load_tokens(run: Run, reader: TokenReader, texts: Sequence[str]) -> FlatTokens:
    """Token ids of texts, mapped from files that the first process wrote; of a few texts, and of a
    tokenizer that cannot be told from others, in the memory of each process.

    Files that are damaged are named and made anew: nothing but time is lost.

    Args:
        run: this run.
        reader: tokenizes.
        texts: in order.

    Raises:
        LeafkitError: the files cannot be written, or another process does not see them as they
            were written.
    """
    if len(texts) < _FEWEST_KEPT:
        return read_flat(reader, texts)
    identity = run.on_main(lambda: reader.identify_ids(texts))
    if not identity:
        return read_flat(reader, texts)
    folder = run.root / TOKENS_FOLDER / identity

    def find_or_write() -> None:
        try:
            if open_tokens(folder, identity, len(texts)) is not None:
                return
        except LeafkitError as err:
            log(f"  {err}: tokenized anew", style="yellow")
        with progress_bar("token ids", len(texts), "texts") as bar:
            write_tokens(folder, identity, reader.read_parts(texts, bar))

    with run.turn(folder):
        run.on_main(find_or_write)
        found = open_tokens(folder, identity, len(texts), is_verified=True)
    if found is None:
        raise LeafkitError(
            f"process {run.world.rank} does not see {folder}, which process 0 wrote",
            "all processes need one file system under checkpoints",
        )
    return found


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


def _add_time(store: VectorStore, seconds: float, num_reused: int) -> None:
    """Note how long the vectors took, and how many were another store's, for reports of later runs;
    a store that was resumed, or that several runs shared, has those of all its runs.
    """
    before = _read_made(store)
    made = {"seconds": round(seconds + before.get("seconds", 0.0), 3)}
    reused = int(before.get("reused", 0)) + num_reused
    content = made | ({"reused": reused} if reused else {})
    write_durably(store.folder / MADE_FILE, json.dumps(content).encode())


def _read_made(store: VectorStore) -> Mapping[str, float]:
    """What ``_add_time`` noted; nothing where nobody did: no figure of quality hangs on it."""
    found = _read_json(store.folder / MADE_FILE)
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}


def _read_json(path: Path) -> Mapping[str, object]:
    """An object that is kept beside vectors; empty where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
