"""A certificate as a page of its own."""

from __future__ import annotations

from leafkit.core.version import __version__
from leafkit.report.environment import render_page
from leafkit.results import Certificate

# template of the section and its title
_SECTIONS = {"measured": "What was measured", "open": "What was not"}


def render_certificate(certificate: Certificate) -> str:
    """One HTML document: no script, nothing loaded from elsewhere."""
    measured, _, settling = certificate.tables()
    return render_page(
        "certificate",
        _SECTIONS,
        title=f"{certificate.source}: certificate of a rescued index",
        version=__version__,
        certificate=certificate,
        measured=measured,
        settling=settling,
    )
