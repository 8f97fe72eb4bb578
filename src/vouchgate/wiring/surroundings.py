"""What the process is told by its surroundings: the clock and the environment.

No other module reads environment variables, and none but ports/clock.py asks the system for the time.
"""

from __future__ import annotations

import os

from vouchgate.ports.clock import Clock
from vouchgate.vocabulary.vouches import UnixMillis


def clock(floor: int = 0) -> Clock:
    """The process's clock, never below `floor` (Unix milliseconds of the last cosigned log time)."""
    return Clock(UnixMillis(floor))


GUARD = "VOUCHGATE_GUARD_"


def guard_environment() -> dict[str, str]:
    """What the environment tells the load guard, by the last part of the names: `SOCKET`, `ENDPOINT` ..."""
    return {name.removeprefix(GUARD): value for name, value in os.environ.items() if name.startswith(GUARD)}


MLFLOW = "VOUCHGATE_MLFLOW_"


def mlflow_environment() -> dict[str, str]:
    """What the environment tells the gate in an MLflow server: `SOCKET`, `GUARD` ..."""
    return {name.removeprefix(MLFLOW): value for name, value in os.environ.items() if name.startswith(MLFLOW)}


def environment_says(name: str) -> bool:
    """Whether a switch of somebody else's program is on."""
    return os.environ.get(name, "").lower() in ("1", "true")


def before_python_path(folder: str) -> str:
    """PYTHONPATH with `folder` in front."""
    return os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH", ""))))


def first_said(*names: str) -> str:
    """What the environment says by the first of these names that it knows, or nothing."""
    return next(filter(None, (os.environ.get(name, "") for name in names)), "")
