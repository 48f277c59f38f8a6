"""What stands beside an exported page: how it is served, and whose files are in it."""

from __future__ import annotations

from leafkit.exporters.source import ExportSource
from leafkit.exporters.web.runtime import PACKAGES, name_in_export

_POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:"


def make_readme(source: ExportSource, cosine: float) -> str:
    """README.md of an exported page.

    Args:
        source: what is exported.
        cosine: the smallest of the int8 student's vectors with the model's.
    """
    page, dim = source.page(), source.encoder.dim
    brought = "\n".join(
        f"- {name} {package.version}, {package.license}: "
        + ", ".join(map(name_in_export, package.files))
        for name, package in PACKAGES.items()
    )
    parts = [
        "# A search page without a server",
        f"{len(page.documents):,} documents, embedded by the teacher ({dim:,} dimensions, int8 "
        "codes with a scale per dimension), and the student that embeds questions, as an int8 "
        "ONNX graph in standard operators. Questions are embedded and answered in the browser and "
        "never leave it: all requests go to the place that the page came from.",
        f"On the texts that the export was checked with, the int8 student's vectors have a cosine "
        f"of at least {cosine:.4f} with the model's.",
        "Any server of static files will do; a page opened from the disk (file:) may not load its "
        "parts:",
        "    python -m http.server --bind 127.0.0.1 --directory . 8000",
        "A server that is seen by others should send the policy that the page asks for itself:",
        f"    Content-Security-Policy: {_POLICY}",
        "`await leafkit.search(question, k)` in the page's console or scripts gives what it shows.",
        "## Files of others",
        f"In runtime/, as npm brought them, but for .mjs, which not every server knows as "
        f"JavaScript, and which is .js here:\n\n{brought}",
    ]
    return "\n\n".join(parts) + "\n"
