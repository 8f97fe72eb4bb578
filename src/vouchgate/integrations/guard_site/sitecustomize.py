"""Run by the interpreter's own start (site.py), before any code of the program: installs the load guard, or ends the process.

site.py goes on where a sitecustomize fails, so a guard that cannot be installed ends the process here. A sitecustomize of the machine's own, or of
another tool, is run behind this one. `python -S`, `-I` and `-E` do not come by here.
"""

import os
import sys

EXIT_CODE = 78
"""EX_CONFIG (sysexits.h)."""


def _guard() -> None:
    """Install, or end."""
    try:
        from vouchgate.integrations import guard

        guard.install()
    except BaseException as error:
        told = f"{error}; {error.remedy}" if hasattr(error, "remedy") else f"{type(error).__name__}: {error}"
        sys.stderr.write(f"vouchgate: the load guard could not be installed, so nothing is run: {told}\n")
        sys.stderr.flush()
        os._exit(EXIT_CODE)


def _next() -> None:
    """Another sitecustomize, further down the path."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    own = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    spec = PathFinder.find_spec("sitecustomize", [one for one in sys.path if os.path.abspath(one or ".") != own])  # noqa: PTH100
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(module_from_spec(spec))


_guard()
_next()
