"""Lets the tests of the token service share the flows' control plane in memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "flows"))
