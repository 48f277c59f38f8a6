"""Identity of local data files."""

from __future__ import annotations

from pathlib import Path

from leafkit.config import DataConfig
from leafkit.core.artifact import fingerprint
from leafkit.core.file_hashes import sha256_of_file
from leafkit.core.watch import watch_folders

_SUFFIXES = (".jsonl", ".tsv")  # of the files of a folder that are read


def fingerprint_files(uri: str, root: Path, data: DataConfig) -> str:
    """Identity of the content of a file, or of all data files below a folder."""
    if root.is_dir():
        watch_folders(root)
    files = [root] if root.is_file() else sorted(root.rglob("*"))
    hashes = [
        (str(path.relative_to(root.parent)), sha256_of_file(path))
        for path in files
        if path == root or path.suffix in _SUFFIXES
    ]
    return fingerprint([uri, [data.on_bad_row, data.max_bad_rows], hashes])
