"""Lets the tests of API, console and command line share the in-memory surface beside the API's tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "api"))
