"""Charts as one file that stands on its own."""

from __future__ import annotations

from collections.abc import Sequence

from leafkit.report.charts.svg import WIDTH
from leafkit.report.environment import stylesheet


def stack(plots: Sequence[str], height: float) -> str:
    """Drawings below one another, each ``height`` high, with their own style."""
    sized = [
        str(plot).replace("<svg ", f'<svg width="{WIDTH:.0f}" height="{height:.0f}" ', 1)
        for plot in plots
    ]
    total = height * len(plots)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:.0f} {total:.0f}" '
        f'width="660">'
        f"<style>{stylesheet()}.chart{{width:{WIDTH:.0f}px;height:{height:.0f}px}}"
        ".chart text{font-family:system-ui,sans-serif}</style>"
        f'<rect width="{WIDTH:.0f}" height="{total:.0f}" '
        f'style="fill:var(--paper)"/>{"".join(sized)}</svg>\n'
    )
