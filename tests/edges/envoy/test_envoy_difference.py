"""Where two messages differ, in words: the first place, what is there and what is meant, never more than a line."""

from __future__ import annotations

import pytest

from vouchgate.edges.envoy.readback import MAX_BRIEF, MAX_PATH, difference

MEANT = {
    "name": "tls",
    "hosts": [{"name": "a", "routes": [{"name": "x", "to": "one"}, {"name": "y", "to": "two"}]}, {"name": "b"}],
    "strict": True,
}
SAID = {
    "one route more": ({"hosts": [{"name": "a", "routes": [{"name": "aside"}, *MEANT["hosts"][0]["routes"]]}, {"name": "b"}]}, "hosts.0.routes has `aside`"),
    "one route less": ({"hosts": [{"name": "a", "routes": [{"name": "x", "to": "one"}]}, {"name": "b"}]}, "hosts.0.routes lacks `y`"),
    "another target": (
        {"hosts": [{"name": "a", "routes": [{"name": "x", "to": "one"}, {"name": "y", "to": "else"}]}, {"name": "b"}]},
        'hosts.0.routes.1.to is `"else"`, meant is `"two"`',
    ),
    "another order": ({"hosts": [{"name": "b"}, MEANT["hosts"][0]]}, "hosts is in another order"),
    "a field more": ({"failure_mode_allow": True}, "content has failure_mode_allow `true`"),
    "another kind": ({"hosts": 7}, "hosts is `7`, meant is "),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_the_first_difference_is_named(name: str) -> None:
    changes, words = SAID[name]
    assert difference(MEANT | changes, MEANT).startswith(words)


def test_what_is_gone_is_named() -> None:
    assert difference({one: MEANT[one] for one in ("name", "hosts")}, MEANT) == "content lacks strict `true`"


def test_a_deep_and_long_difference_stays_one_line() -> None:
    said, meant = {"x" * 50: "a\n" * 10_000}, {"x" * 50: "b" * 10_000}
    for _ in range(50):
        said, meant = {"field": said}, {"field": meant}
    text = difference(said, meant)
    assert len(text) < MAX_PATH + 2 * MAX_BRIEF + 40 and "\n" not in text
