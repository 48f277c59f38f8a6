"""Vectors of texts, computed once per encoder and text and kept in stores under
checkpoints/vectors.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from leafkit.core.artifact import fingerprint
from leafkit.core.checkpoint_layout import VECTORS_FOLDER
from leafkit.core.console import log
from leafkit.core.method import method_of
from leafkit.core.watch import watch_tree
from leafkit.data.vector_store import VectorStore, hash_texts
from leafkit.embedders.distinct import check_distinct
from leafkit.embedders.fill_store import fill_store
from leafkit.embedders.lookup_table import LookupTableEmbedder
from leafkit.embedders.protocol import Embedder
from leafkit.embedders.transformer import TransformerEmbedder
from leafkit.pipeline.run import Run

_LOCAL = (TransformerEmbedder, LookupTableEmbedder)  # whose vectors the code here decides about


def load_vectors(
    run: Run,
    model: Embedder,
    name: str,
    texts: Sequence[str],
    *,
    role: str,
    max_tokens: int,
    what: str,
) -> VectorStore:
    """The store with the vectors of ``texts``; what it lacks is computed, shared among the
    processes.

    Args:
        run: this run.
        model: whatever gives the vectors.
        name: what the model is called in folder names and messages.
        texts: in order.
        role: "query" or "document"; decides about the prompt.
        max_tokens: cut of the texts.
        what: what the texts are, for messages ("pydocs documents").

    Raises:
        LeafkitError: the store is damaged or belongs to something else, a vector is not finite, or
            a text has none.
    """
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
    store = VectorStore(run.root / VECTORS_FOLDER / f"{name}-{role}-{identity}", space, texts)
    started_s = time.perf_counter()
    title = f"{name} vectors of {what}"
    computed = fill_store(
        store, model, texts, role, title=title, rank=run.world.rank, num_ranks=run.world.size
    )
    run.barrier()
    if computed:
        check_distinct(texts, store, title)
    watch_tree(store.folder)
    if not computed:
        log(f"{title}: up to date ({store.folder})", style="dim")
    status = "done" if computed else "up to date"
    run.steps.append({"name": title, "seconds": time.perf_counter() - started_s, "status": status})
    return store
