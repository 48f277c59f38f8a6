"""An exported folder, opened by transformers.js in a page of headless Chromium.

    python benchmarks/readers/in_chromium.py MODULES JOB_FILE VECTORS_FILE DTYPE

Started by benchmarks/compatibility.py, with the arguments of transformers_js.mjs and what that
writes and says. The page, the packages in MODULES and the exported folder are served on this
machine; an address anywhere else is an error. Needs the driver of tests/browser.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from browser import Browser, why_missing
from lib.chromium import chromium_version, files_served

READERS = Path(__file__).parent


def link_files(folder: Path, modules: Path, job_file: Path) -> None:
    """All that the page asks for, under the names that it has for it."""
    package = modules / "node_modules" / "@huggingface" / "transformers"
    # npm puts a runtime of its own below it where another version lies beside it
    runtimes = [
        place / "onnxruntime-web" for place in (package / "node_modules", package.parents[1])
    ]
    model = Path(json.loads(job_file.read_text(encoding="utf-8"))["folders"]["onnx"])
    links = {
        "index.html": READERS / "transformers_js.html",
        "embed_queries.mjs": READERS / "embed_queries.mjs",
        "job.json": job_file,
        "transformers": package / "dist",
        "runtime": next(filter(Path.is_dir, runtimes), runtimes[-1]) / "dist",
        "models/student": model,
    }
    (folder / "models").mkdir()
    for name, place in links.items():
        (folder / name).symlink_to(place.resolve())


def read(folder: Path, dtype: str) -> dict[str, Any]:
    """What the page gives: "queries", a list of vectors, and "versions" by package.

    Raises:
        SystemExit: it fails, or asked another address than this machine's.
    """
    with files_served(folder) as files, Browser() as browser:
        try:
            browser.call("goto", files.url)
            found: dict[str, Any] = browser.evaluate(f"read({json.dumps(dtype)})")
        except AssertionError as err:
            raise SystemExit(f"{str(err).splitlines()[0]} {browser.console}") from err
        if foreign := browser.foreign_requests(files.url):
            raise SystemExit(f"the page asked {foreign[0]}")
    return found


def main() -> None:
    """Write the vectors, and say what gave them."""
    modules, job_file, vectors_file, dtype = sys.argv[1:]
    if reason := why_missing():
        raise SystemExit(reason)
    with tempfile.TemporaryDirectory() as temporary:
        link_files(Path(temporary), Path(modules), Path(job_file))
        found = read(Path(temporary), dtype)
    Path(vectors_file).write_text(json.dumps({"queries": found["queries"]}), encoding="utf-8")
    name, _, version = chromium_version().rpartition(" ")
    versions = found["versions"] | {name: version}
    print(json.dumps({"versions": versions, "prompt": "before the text"}))


if __name__ == "__main__":
    main()
