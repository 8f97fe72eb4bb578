"""Lets these tests share the control plane in memory beside the flows' tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "flows"))
