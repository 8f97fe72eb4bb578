"""What every test shares: names of parametrised cases that are the same in every worker."""

from __future__ import annotations

LONG = 40
"""Characters of a value that may stand in a test's name; longer ones are keys and digests, made anew in each process."""


def pytest_make_parametrize_id(config: object, val: object, argname: str) -> str | None:
    """The argument's name in place of a long value; pytest numbers what is not unique."""
    return argname if isinstance(val, bytes | str) and len(val) > LONG else None
