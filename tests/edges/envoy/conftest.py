"""One Envoy for most tests, put back into the usual state before each; tests that kill or starve one start their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from gateway_harness import Harness


@pytest.fixture(scope="session")
def shared_gateway() -> Iterator[Harness]:
    harness = Harness()
    yield harness
    harness.close()


@pytest.fixture
def gw(shared_gateway: Harness) -> Harness:
    shared_gateway.reset()
    return shared_gateway


@pytest.fixture
def own() -> Iterator[Callable[..., Harness]]:
    made: list[Harness] = []

    def make(**options: object) -> Harness:
        made.append(Harness(**options))
        return made[-1]

    yield make
    for harness in made:
        harness.close()
