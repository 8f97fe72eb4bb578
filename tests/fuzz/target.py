"""One fuzz target: `python tests/fuzz/target.py NAME [libFuzzer's options]`. Coverage of the scanner, or of what reads evidence, guides it; atheris must be installed.

Findings are what checks.py calls one, an input that takes longer than `-timeout` or more memory than `-rss_limit_mb`. `make fuzz` runs all targets.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["vouchgate.scanning", "vouchgate.evidence"]):
    import checks
    import documents

import document_seeds
import seeds

CORPUS = Path("build/fuzz")
DEFAULTS = ("-max_total_time=60", "-timeout=5", "-rss_limit_mb=2048", "-max_len=65536", "-verbosity=0", "-print_final_stats=1")


def main(name: str, options: list[str]) -> None:
    """Write the seeds, then hand over to libFuzzer, which ends the process."""
    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    kind = documents if name in documents.names() else checks
    for index, seed in enumerate(document_seeds.seeds(name) if kind is documents else seeds.seeds()):
        (corpus / f"seed-{index}").write_bytes(seed)
    atheris.Setup(
        [sys.argv[0], *DEFAULTS, f"-artifact_prefix={CORPUS}/found-{name}-", *options, str(corpus)],
        lambda content: kind.check(name, content),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    known = [*checks.names(), *documents.names()]
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        sys.exit(f"usage: target.py NAME [options]; names: {' '.join(known)}")
    main(sys.argv[1], sys.argv[2:])
