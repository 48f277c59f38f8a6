"""A model hub in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path


class FakeHub:
    """A repository in a folder, of which a download takes the files that match."""

    def __init__(self, repository: Path, cache: Path) -> None:
        self.repository, self.cache = repository, cache
        self.asked: list[tuple[str, str, Sequence[str]]] = []

    def snapshot_download(
        self, hub_id: str, *, revision: str, allow_patterns: Sequence[str]
    ) -> str:
        """What huggingface_hub's function of this name does."""
        self.asked.append((hub_id, revision, allow_patterns))
        self.cache.mkdir(exist_ok=True)
        for path in sorted(self.repository.rglob("*")):
            name = path.relative_to(self.repository).as_posix()
            if path.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                (self.cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.cache / name)
        return str(self.cache)
