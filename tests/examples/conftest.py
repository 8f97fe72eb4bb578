"""The fixtures of these tests; what they give stands in `example_servers.py`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from example_servers import start, trained

__all__ = ["start", "trained"]
