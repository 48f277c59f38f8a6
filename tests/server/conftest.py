"""One tiny pair and one server for the tests of what it answers."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from served import make_pair

from leafkit.pipeline.pair import Pair
from leafkit.server.serve import serve


@pytest.fixture(scope="module")
def pair() -> Pair:
    return make_pair()


@pytest.fixture(scope="module")
def client(pair: Pair) -> Iterator[httpx.Client]:
    with (
        serve(
            pair,
            port=0,
            block=False,
            name="mini",
            max_inputs=8,
            max_body_bytes=20_000,
            student_documents=True,
        ) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield client
