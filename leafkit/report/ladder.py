"""A ladder as a page of its own: its tables, and cost against quality of the rungs and the
router.
"""

from __future__ import annotations

from markupsafe import Markup

from leafkit.core.version import __version__
from leafkit.report.charts.plots import Cloud, Dot, frontier_chart
from leafkit.report.environment import render_page
from leafkit.results import Ladder

# template of the section and its title
_SECTIONS = {"frontier": "Cost and quality", "rungs": "Each rung alone", "promises": "Promises"}


def render_ladder(ladder: Ladder) -> str:
    """One HTML document: no script, nothing loaded from elsewhere."""
    rungs, promises = ladder.tables()
    return render_page(
        "ladder",
        _SECTIONS,
        title=f"{ladder.collection}: ladder of {len(ladder.rungs)} rungs",
        version=__version__,
        ladder=ladder,
        rungs=rungs,
        promises=promises,
        chart=draw_frontier(ladder),
    )


def draw_frontier(ladder: Ladder) -> Markup:
    """Share of the teacher's nDCG@10 over the share of its time: rungs, and the router."""
    rungs = [
        Dot(
            one.query_ms / ladder.teacher_ms,
            one.kept.value,
            f"{one.name}, {one.query_ms:.2f} ms, {one.kept.percent()}",
            one.kept.low,
            one.kept.high,
        )
        for one in ladder.rungs
    ]
    router = [
        Dot(point.cost, point.kept.value, point.kept.percent(), point.kept.low, point.kept.high)
        for point in ladder.curve
    ]
    return frontier_chart(
        "Cost and quality",
        "Share of the teacher's nDCG@10 over the share of its query time, for each rung and for "
        "the router at several thresholds.",
        [Cloud("router", router, 1), Cloud("rungs", rungs, 2)],
        "share of the teacher's query time",
        larger_is_better=False,
        y_label="share of the teacher's nDCG@10",
    )
