"""How many rows a vector store's shards have: as many as whoever began it chose, and all that go on
with it must know.
"""

from __future__ import annotations

import json
from pathlib import Path

from leafkit.core.artifact import write_durably
from leafkit.core.checkpoint_layout import SHARDS_FILE
from leafkit.core.errors import LeafkitError, explain_write_errors

DEFAULT_ROWS_PER_SHARD = 2048  # of one process, and the most that several take
# fewer are too few to sort by length; files and commit records would take longer than the vectors
FEWEST_ROWS_PER_SHARD = 64
_SHARDS_PER_WORKER = 8  # the last ones end within an eighth of a worker's time of each other
_MOST_ROWS = 2**31


def choose_rows_per_shard(num_texts: int, num_workers: int) -> int:
    """Rows of a new store's shards: several for each worker, so that all have their share of a few
    texts too, and no more than one process takes.

    >>> [choose_rows_per_shard(1037, n) for n in (1, 2, 8)], choose_rows_per_shard(10**6, 8)
    ([2048, 64, 64], 2048)
    >>> choose_rows_per_shard(30_000, 8)
    448
    """
    if num_workers == 1:
        return DEFAULT_ROWS_PER_SHARD
    share = num_texts // (num_workers * _SHARDS_PER_WORKER)
    whole = share // FEWEST_ROWS_PER_SHARD * FEWEST_ROWS_PER_SHARD
    return min(max(whole, FEWEST_ROWS_PER_SHARD), DEFAULT_ROWS_PER_SHARD)


def read_rows_per_shard(folder: Path) -> int:
    """Rows of the shards of the store in a folder; ``DEFAULT_ROWS_PER_SHARD`` where nothing says
    how many, as in stores that were begun before anything did.

    Raises:
        LeafkitError: the file that says so is damaged.
    """
    path = folder / SHARDS_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["rows_per_shard"]
    except FileNotFoundError:
        return DEFAULT_ROWS_PER_SHARD
    except OSError as err:
        raise LeafkitError(f"{path} cannot be read: {err.strerror}") from err
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if type(found) is not int or not 0 < found <= _MOST_ROWS:
        raise LeafkitError(
            f"{path} does not say how many rows a shard has",
            f"delete {folder} and run again: only these vectors are computed anew",
        )
    return found


def settle_rows_per_shard(folder: Path, num_texts: int, num_workers: int) -> int:
    """Rows of a store's shards: as they are, else chosen and noted for all that come later. One
    process at a time may ask.

    Args:
        folder: of the store.
        num_texts: that it is for.
        num_workers: processes that begin it together.

    Raises:
        LeafkitError: the note is damaged, or cannot be written.
    """
    is_begun = (folder / SHARDS_FILE).exists() or any(folder.glob("[0-9]*.json"))
    if is_begun or not num_texts:
        return read_rows_per_shard(folder)
    chosen = choose_rows_per_shard(num_texts, num_workers)
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / SHARDS_FILE, json.dumps({"rows_per_shard": chosen}).encode())
    return chosen
