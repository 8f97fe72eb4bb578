"""Property tests here have no deadline: the machine is shared, and tests never time."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
