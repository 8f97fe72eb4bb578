"""One running installation for each file of tests; what a file breaks, it mends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from installation import MODEL, Caller, Installation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session", autouse=True)
def model() -> None:
    if not MODEL.exists():
        pytest.skip("there is no build/digits/model.onnx: run `make example`")


@pytest.fixture(scope="module")
def house() -> Iterator[Installation]:
    with Installation() as running:
        yield running


@pytest.fixture(scope="module")
def alice(house: Installation) -> Caller:
    """An allowed caller."""
    made = house.caller("alice")
    house.until(lambda: house.infer(made).status == 200, 10, "alice was not let in")
    return made


@pytest.fixture(scope="module")
def victor(house: Installation) -> Caller:
    """A caller whom nothing permits anything."""
    return house.caller("victor", ("visitors",))
