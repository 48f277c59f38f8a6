"""A prediction as a page of its own."""

from __future__ import annotations

from leafkit.core.version import __version__
from leafkit.report.environment import render_page
from leafkit.results import Prediction
from leafkit.results.prediction import COVERAGE

# template of the section and its title
_SECTIONS = {"students": "Students", "others": "Ways to search, and what is not predicted"}


def render_prediction(prediction: Prediction) -> str:
    """One HTML document: no script, nothing loaded from elsewhere."""
    students, *others = prediction.tables()
    return render_page(
        "prediction",
        _SECTIONS,
        title=f"{prediction.teacher}: what its students will be worth",
        version=__version__,
        intervals=f"Intervals are {COVERAGE:.0%} prediction intervals.",
        prediction=prediction,
        students=students,
        others=others,
    )
