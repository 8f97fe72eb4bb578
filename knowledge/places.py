"""Where the generator's files lie."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
REVIEWED = HERE / "reviewed"
PINS = HERE / "wheels.toml"
RULES = HERE / "rules.toml"
CACHE = HERE.parent / "build" / "knowledge"
"""What was read of each wheel, by its hash; never committed."""
DATA = HERE.parent / "src" / "vouchgate" / "scanning" / "knowledge" / "data"
KEY = Path("~/.config/vouchgate/knowledge-key.pem").expanduser()
"""The publisher's private key, unless `--key` names another; never inside the repository (ADR 0023)."""
