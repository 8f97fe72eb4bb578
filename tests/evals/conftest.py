"""The evals are scripts beside each other; so are their tests' imports."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "system"), str(ROOT / "evals")]
