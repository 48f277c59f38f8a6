"""The error of a request that cannot be answered."""

from __future__ import annotations


class BadRequest(Exception):
    """A request that cannot be answered, with the status and the parameter that is wrong."""

    def __init__(
        self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code
