"""``hf:NAME[:CONFIG]@SPLIT[#REVISION]``: a data set of the Hugging Face hub, or a folder that the
datasets library reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.errors import LeafkitError
from leafkit.data.records import Collection
from leafkit.data.sources.bad_rows import BadRows
from leafkit.data.sources.files import fingerprint_files
from leafkit.data.sources.finish import finish_collection
from leafkit.data.sources.names import Columns
from leafkit.data.sources.rows import collect_rows
from leafkit.data.sources.sample import SEED, choose_numbers, row_content

_COMMIT = re.compile(r"[0-9a-f]{40}")
_SAVED = ("state.json", "dataset_dict.json")  # in a folder that datasets' save_to_disk wrote
_SHUFFLED_ROWS = 10_000  # of a stream, which is not read whole for a few rows
UNPINNED = "data sets of the hub without a pinned revision (write #COMMIT behind the split)"


@dataclass(frozen=True, slots=True)
class HubSource:
    """Rows of a data set.

    Attributes:
        uri: as the recipe names it.
        name: on the hub, or a folder.
        config: of the data set; often "".
        split: of it.
        revision: on the hub; "" takes the newest.
    """

    uri: str
    name: str
    config: str
    split: str
    revision: str

    @classmethod
    def parse(cls, uri: str, rest: str) -> HubSource:
        """Read the address NAME[:CONFIG]@SPLIT[#REVISION]."""
        path, _, end = rest.rpartition("@")
        split, _, revision = end.partition("#")
        name, _, config = path.partition(":")
        return cls(uri, name, config, split, revision)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine."""
        return Path(self.name).is_dir()

    @property
    def is_pinned(self) -> bool:
        """Whether its content cannot change: a commit of the hub's, or a folder, whose content is
        part of its identity.
        """
        return self.is_local or _COMMIT.fullmatch(self.revision) is not None

    def fingerprint(self, data: DataConfig) -> str:
        """Identity of a folder's content; of a data set on the hub that of its name and revision,
        the hub is not asked.

        Raises:
            LeafkitError: a file of the folder cannot be read.
        """
        if self.is_local:
            root = Path(self.name)
            files = sorted(path for path in root.rglob("*") if not path.is_dir())
            content = fingerprint_files(self.uri, root, files, data)
        else:
            content = fingerprint([self.uri, [data.on_bad_row, data.max_bad_rows]])
        return Columns.of(data).fingerprint(content)

    def rows(
        self, data: DataConfig, bad: BadRows, limit: int
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """At most ``limit`` rows (0: all), a random sample, each with where it stands and under our
        names. On the hub the sample is drawn from the first 10,000 rows of the stream.

        Raises:
            LeafkitError: the data set cannot be had.
        """
        bad.counts[UNPINNED] += not self.is_pinned
        yield from Columns.of(data).rename(self._read(limit, bad.counts), bad)

    def read(self, data: DataConfig, *, limit: int, default_split: str) -> Collection:
        """The collection that the rows form.

        Raises:
            LeafkitError: it cannot be had or is empty, or a row is bad and the policy is to stop.
        """
        counts: Counter[str] = Counter()
        bad = BadRows(data.on_bad_row, data.max_bad_rows, counts)
        collection = collect_rows(
            self.uri.removeprefix("hf:"),
            self.rows(data, bad, limit),
            bad,
            counts,
            default_split=default_split,
            is_sample=limit > 0,
        )
        return finish_collection(self.uri, collection, counts)

    def _read(self, limit: int, counts: Counter[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            rows = self._load(is_streamed=limit > 0 and not self.is_local)
        except (
            Exception
        ) as err:  # the library raises many kinds for one reason: it is not to be had
            reason = str(err).strip().splitlines()
            raise LeafkitError(
                f"{self.uri} cannot be loaded: {type(err).__name__}: {reason[0] if reason else ''}",
                "check name, configuration, split and the network; a local copy is read with "
                "jsonl:PATH or beir:PATH",
            ) from err
        if limit and not hasattr(rows, "__len__"):
            counts[f"rows taken at random out of a stream's first {_SHUFFLED_ROWS:,}"] += limit
            rows = rows.shuffle(seed=SEED, buffer_size=_SHUFFLED_ROWS).take(limit)
        elif limit:
            for number in choose_numbers((row_content(dict(r)) for r in rows), limit, counts):
                yield f"{self.uri} row {number}", dict(rows[number])
            return
        for number, row in enumerate(rows):
            yield f"{self.uri} row {number}", dict(row)

    def _load(self, *, is_streamed: bool) -> Any:
        import datasets

        if self.is_local and any((Path(self.name) / name).is_file() for name in _SAVED):
            found = datasets.load_from_disk(self.name)
            return found[self.split] if isinstance(found, datasets.DatasetDict) else found
        more = {"revision": self.revision} if self.revision else {}
        return datasets.load_dataset(
            self.name, self.config or None, split=self.split, streaming=is_streamed, **more
        )
