"""Lets the tests of the AuthZEN edge share the flows' facts in memory."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "flows"))
sys.path.insert(0, str(Path(__file__).parent))
