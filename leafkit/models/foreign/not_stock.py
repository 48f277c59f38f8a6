"""What is said of a folder that sentence-transformers reads and an encoder here cannot compute."""

from __future__ import annotations

from leafkit.core.errors import LeafkitError


class NotStock(LeafkitError):
    """The folder holds more than a backbone, one pooling, linear maps and a normalization, in this
    order. It can teach as a whole, through sentence-transformers; no student can start from it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(
            message,
            "as teacher.source it is read as a whole, through sentence-transformers; nothing can "
            "be trained from it",
        )
