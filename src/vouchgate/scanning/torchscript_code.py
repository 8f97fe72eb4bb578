"""TorchScript's code, as a syntax tree: whether it reaches outside of the tensors it is given.

TorchScript has Python's syntax and no imports; what it calls are methods of its own classes, functions of its own files, and torch's operators.
Of those, a few read or write files, and `ops.<library>` are whatever library registered them.
"""

from __future__ import annotations

import ast

MAX_SOURCE = 16 * 1024**2
"""Bytes of one file of code; the largest traced models have about 5 MiB."""
LIBRARIES = frozenset(
    {"prim", "aten", "prims", "quantized", "quantized_decomposed", "torchvision", "torchaudio", "image", "mkldnn", "sparse", "rnn"}
)
"""Operator libraries of torch and its own companions."""
ACTING = frozenset(
    {"save", "load", "from_file", "read_file", "write_file", "_save", "_load", "fork", "rpc_async", "rpc_sync", "rpc_remote"}
)
"""Operators, of any library, that touch files or other processes."""
ROOTS = frozenset({"torch", "ops"})


def outside(source: bytes) -> str:
    """Why the code is refused; empty where it only computes."""
    if len(source) > MAX_SOURCE:
        return f"it is over {MAX_SOURCE} bytes"
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "it is no TorchScript that could be read"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            return f"line {node.lineno}: TorchScript has no imports"
        if isinstance(node, ast.Attribute):
            why = _operator(node)
            if why:
                return f"line {node.lineno}: {why}"
    return ""


def _operator(node: ast.Attribute) -> str:
    path = [node.attr]
    inner: ast.expr = node.value
    while isinstance(inner, ast.Attribute):
        path.append(inner.attr)
        inner = inner.value
    if not isinstance(inner, ast.Name) or inner.id not in ROOTS:
        return ""
    path.reverse()
    if inner.id == "ops" and path[0] not in LIBRARIES:
        return f"it calls the library `{path[0][:80]}`, which is not torch's own"
    return f"it calls `{inner.id}.{'.'.join(path)[:80]}`, which touches files or other processes" if path[-1] in ACTING else ""
