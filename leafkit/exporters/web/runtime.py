"""What runs a student in a browser: ONNX Runtime's WebAssembly build and Hugging Face's tokenizers,
which npm brings and Python's packages do not.

The page is tested with these very files, so others are refused: a newer tokenizer that cuts a word
elsewhere would give other vectors without a word.

Their modules end in .mjs, and in .js in an export: many servers of files, nginx as it comes among
them, do not send .mjs as JavaScript, and browsers run no module that is not sent so.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from leafkit.core.errors import UsageError
from leafkit.core.file_hashes import sha256_of_file


@dataclass(frozen=True, slots=True)
class Package:
    """One package of npm's.

    Attributes:
        version: that is taken.
        license: its SPDX identifier.
        files: sha256 by the place in the package.
    """

    version: str
    license: str
    files: dict[str, str]


PACKAGES = {
    "onnxruntime-web": Package(
        "1.30.0",
        "MIT",
        {
            "dist/ort.wasm.min.mjs": (
                "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"
            ),
            "dist/ort-wasm-simd-threaded.mjs": (
                "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
            ),
            "dist/ort-wasm-simd-threaded.wasm": (
                "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
            ),
        },
    ),
    "@huggingface/tokenizers": Package(
        "0.2.0",
        "Apache-2.0",
        {
            "dist/tokenizers.min.mjs": (
                "258e46332101335ce8d95aed7745b19ac3b46d37f3e159a89cf894c2ea9b1d3a"
            ),
        },
    ),
}


def install_command(folder: str) -> str:
    """The line that brings the packages into a folder."""
    names = " ".join(f"{name}@{package.version}" for name, package in PACKAGES.items())
    return f"npm install --ignore-scripts --prefix {folder} {names}"


def name_in_export(place: str) -> str:
    """The name of a package's file in an export.

    Args:
        place: in the package.
    """
    path = PurePosixPath(place)
    return path.with_suffix(".js").name if path.suffix == ".mjs" else path.name


def find_runtime(folder: Path | None) -> dict[str, Path]:
    """The files of the runtime by their names in an export.

    Args:
        folder: that npm installed into, or its node_modules.

    Raises:
        UsageError: none is named, or a file is missing or another.
    """
    hint = f"{install_command('FOLDER')}, then web_runtime=FOLDER"
    if folder is None:
        raise UsageError(
            "to=web needs what runs a model in a browser, which npm brings and pip does not", hint
        )
    inner = folder / "node_modules"
    modules = inner if inner.is_dir() else folder
    found = {}
    for name, package in PACKAGES.items():
        for place, digest in package.files.items():
            path = modules / name / place
            if not path.is_file():
                raise UsageError(f"web_runtime={folder}: {name}/{place} is not there", hint)
            if sha256_of_file(path) != digest:
                raise UsageError(
                    f"web_runtime={folder}: {name}/{place} is not that of {name} "
                    f"{package.version}, which the page is tested with",
                    hint,
                )
            found[name_in_export(place)] = path
    return found


def copy_runtime(folder: Path | None, target: Path) -> None:
    """Copy the runtime's files into a folder, which is created.

    Raises:
        UsageError: see ``find_runtime``.
    """
    found = find_runtime(folder)
    target.mkdir()
    for name, path in found.items():
        shutil.copyfile(path, target / name)
