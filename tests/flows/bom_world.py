"""A model and a virtual environment as files, to be described, changed and attacked."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from vouchgate.evidence.bom.python import Environment
from vouchgate.flows.python_environment import read_environment
from vouchgate.ports.artifact_files import Place

SITE = "lib/python3.11/site-packages"
CARD = b"---\nlicense: mit\nbase_model: a/b\ndatasets: [squad]\n---\n# model\n"


def model(folder: Path) -> Path:
    """A small Hugging Face model."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(save({"w": np.zeros((4, 5), np.float32), "b": np.zeros(5, np.float16)}))
    (folder / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    (folder / "README.md").write_bytes(CARD)
    return folder


def row(path: str, data: bytes) -> str:
    """One line of a RECORD."""
    return f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"


def install(
    venv: Path,
    name: str,
    version: str = "1.0",
    files: Mapping[str, bytes] | None = None,
    *,
    requires: tuple[str, ...] = (),
    more: Mapping[str, bytes] | None = None,
    record: str | None = None,
    tag: str = "py3-none-any",
    sha256: str = "",
) -> Path:
    """A distribution as an installer leaves it; the folder of its metadata."""
    site = venv / SITE
    own = f"{name}-{version}.dist-info"
    said = "".join(f"Requires-Dist: {one}\n" for one in requires)
    content = dict(files or {f"{name}/__init__.py": b"pass\n"})
    content[f"{own}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{said}".encode()
    content[f"{own}/WHEEL"] = f"Wheel-Version: 1.0\nTag: {tag}\n".encode()
    content[f"{own}/INSTALLER"] = b"pip\n"
    if sha256:
        content[f"{own}/direct_url.json"] = json.dumps(
            {"url": f"https://h/{name}.whl", "archive_info": {"hashes": {"sha256": sha256}}}
        ).encode()
    for path, data in (content | dict(more or {})).items():
        target = site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    text = "".join(row(path, data) for path, data in content.items()) + f"{own}/RECORD,,\n"
    (site / own / "RECORD").write_text(text if record is None else record)
    return site / own


def venv(folder: Path) -> Path:
    """An environment of two distributions."""
    folder.mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.4\n")
    install(folder, "alpha", requires=("beta",))
    install(folder, "beta", "2.0", more={"beta/__pycache__/__init__.cpython-311.pyc": b"compiled"})
    return folder


def environment(folder: Path) -> Environment:
    """Read."""
    with closing(Place(str(folder))) as place:
        return read_environment(place)
