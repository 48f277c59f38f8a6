"""Log lines of the server's packages without what a terminal obeys."""

from __future__ import annotations

import logging
import traceback

from leafkit.core.printable import printable_lines


class PrintableFilter(logging.Filter):
    """Lets every record pass, its message and traceback made safe to show: both may hold what a
    request did.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        record.msg, record.args = printable_lines(text), ()
        record.exc_info = record.exc_text = None
        return True
