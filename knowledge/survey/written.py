"""The ways in which objects are written to files: pickle protocols, joblib plain and compressed, cloudpickle, dill.

Rules
1. Every object is written by pickle's protocol 4 (what most code writes), by one other protocol, and by one way of joblib, in turn.
2. What cannot be written is told, and is no file.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PROTOCOLS = (0, 1, 2, 3, 5)
JOBLIB = (("joblib", 0), ("joblib", ("zlib", 3)), ("joblib", ("gzip", 3)), ("joblib", ("bz2", 3)), ("joblib", ("xz", 3)))
OTHERS = ("cloudpickle", "dill")

Writer = Callable[[Any, Path], None]


def ways(turn: int) -> Iterator[tuple[str, Writer]]:
    """(name's end, writer) for the object whose turn it is (rule 1)."""
    yield "p4.pkl", _pickled(4)
    protocol = PROTOCOLS[turn % len(PROTOCOLS)]
    yield f"p{protocol}.pkl", _pickled(protocol)
    if (joblib := _module("joblib")) is not None:
        _, compress = JOBLIB[turn % len(JOBLIB)]
        label = "plain" if compress == 0 else compress[0]
        yield f"{label}.joblib", lambda what, path: joblib.dump(what, path, compress=compress) and None
    other = OTHERS[turn % len(OTHERS)]
    if turn % 5 == 0 and (module := _module(other)) is not None:
        yield f"{other}.pkl", lambda what, path: path.write_bytes(module.dumps(what)) and None


def _pickled(protocol: int) -> Writer:
    def write(what: Any, path: Path) -> None:
        path.write_bytes(pickle.dumps(what, protocol=protocol))

    return write


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
