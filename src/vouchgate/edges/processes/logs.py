"""JSON logs of our processes: one object a line on standard error, which the supervisor appends to the process's own file.

A message is written by us and holds no secret; texts of exceptions that we did not write are left out (rpc_server.py, rule 2).
"""

from __future__ import annotations

import json
import logging
import sys


class _Lines(logging.Formatter):
    """One line, one object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=True)


def set_up(name: str) -> logging.Logger:
    """Send everything of this process to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    return logging.getLogger(f"vouchgate.{name}")
