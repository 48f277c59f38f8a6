"""What a request holds commands nobody's terminal."""

from __future__ import annotations

import io
import logging

import pytest

from leafkit.server.printable_log import PrintableFilter


@pytest.mark.parametrize("code", ["\x1b[2J", "\x9b31m", "\x07", "\r", "\u202e"], ids=ascii)
def test_messages_and_tracebacks_are_printable(code: str) -> None:
    out = io.StringIO()
    logger = logging.Logger("uvicorn.test")
    logger.addHandler(logging.StreamHandler(out))
    logger.addFilter(PrintableFilter())
    logger.warning("path %s", f"a{code}b")
    try:
        raise ValueError(f"text a{code}b")
    except ValueError:
        logger.exception("failed %d%%", 7)
    told = out.getvalue()
    assert code[0] not in told
    assert "path a" in told
    assert "failed 7%" in told
    assert "Traceback" in told
    assert "ValueError: text a" in told
