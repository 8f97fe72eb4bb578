"""Write what the installed libraries offer: `python -m survey.make OUT [label prefix...]`.

A maker is a module of this package with `objects() -> Iterator[(label, thunk)]`; one whose library is missing yields nothing.
A thunk that fails is told on standard error and skipped: the survey is of what works.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

from survey.written import ways

MAKERS = (
    "python_values",
    "numpy_values",
    "scipy_values",
    "pandas_values",
    "sklearn_estimators",
    "sklearn_parts",
    "boosters",
    "statsmodels_results",
    "graphs_and_text",
    "transformers_values",
    "network_values",
)


def main(out: Path, prefixes: tuple[str, ...]) -> int:
    """Returns the number of files written."""
    out.mkdir(parents=True, exist_ok=True)
    written = turn = 0
    for maker in MAKERS:
        try:
            offered = importlib.import_module(f"survey.{maker}").objects()
            for label, thunk in offered:
                if prefixes and not label.startswith(prefixes):
                    continue
                turn += 1
                written += _write(label, thunk, out, turn)
        except ImportError as missing:
            print(f"{maker}: {missing}", file=sys.stderr)
    return written


def _write(label: str, thunk: object, out: Path, turn: int) -> int:
    try:
        what = thunk()  # type: ignore[operator]
    except Exception as failed:
        print(f"{label}: not made: {type(failed).__name__}: {str(failed)[:120]}", file=sys.stderr)
        return 0
    done = 0
    for end, write in ways(turn):
        path = out / f"{label}.{end}"
        try:
            write(what, path)
            done += 1
        except Exception as failed:
            path.unlink(missing_ok=True)
            print(f"{label}: not written ({end}): {type(failed).__name__}: {str(failed)[:120]}", file=sys.stderr)
    return done


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(main(Path(sys.argv[1]), tuple(sys.argv[2:])), "files")
