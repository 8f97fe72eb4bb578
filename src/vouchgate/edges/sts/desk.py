"""What the resources of the token service are given: the way to the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


class Remote(Protocol):
    """The control plane's frames."""

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request. Raises the peer's typed error, or `Unavailable`."""


@dataclass(frozen=True)
class Desk:
    """One token service."""

    control: Remote
