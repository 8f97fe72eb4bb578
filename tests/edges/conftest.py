"""Lets the tests of API, console and command line share the in-memory surface beside the API's tests, served once for each file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "api"))

from surface_served import Served


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with Served() as served:
        yield served


@pytest.fixture
def api(shared: Served) -> Served:
    """With a surface as it is after the start."""
    shared.surface.__init__()  # type: ignore[misc]
    return shared
