"""TorchScript files: PyTorch's zip with code. Never clean, for code is what they carry; refused where that code reaches outside.

Rules (torch `csrc/jit/docs/serialization.md`)
1. The archive's structure, plain members and storages: torch_archives.py.
2. Each pickle at the top (`data.pkl`, `constants.pkl`, ...) is judged by the machine, its storages lie in the folder of its name; classes below `__torch__` are the file's own, and what they do stands in `code/`.
3. Every file of `code/` is TorchScript: Python's syntax, read as a tree. Calls that read or write files, or into libraries that are not
   torch's own, are refused (torchscript_code.py). Debug records beside them are pickles too.
4. What passes is up for review by a person.
"""

from __future__ import annotations

from vouchgate.scanning.pickle_records import most, trailing
from vouchgate.scanning.pickles.machine import Ran, run
from vouchgate.scanning.pickles.torch_storages import TORCH_SCRIPT
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.torch_archives import CONSTANTS, Archive, folder_of
from vouchgate.scanning.torch_legacy import referred
from vouchgate.scanning.torchscript_code import outside
from vouchgate.scanning.verdict import Reading, Reason

NAME = "torchscript"
REMEDY = "have a person read the code and accept it, or ask for the weights as safetensors or the model as ONNX"


def recognise(sight: Sight) -> Claim:
    """A torch zip with code or constants."""
    folder = folder_of(sight.zip_names)
    code = folder is not None and f"{folder}{CONSTANTS}" in sight.zip_names
    return Claim(strength="certain", kind=NAME, because="a torch archive with code", above=("zip",)) if code else NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """Structure, pickles, code."""
    archive = Archive(sight.view, scope, NAME)
    reasons: list[Reason] = []
    for name in [name for name in archive.left if name.endswith(".pkl") and "/" not in name]:
        ran, found = _pickle(archive, name, scope)
        reasons += found
        if ran is not None and not found:
            archive.storages(referred(ran), f"{name.removesuffix('.pkl')}/")
    for name in [name for name in archive.left if name.endswith(".debug_pkl")]:
        reasons += _pickle(archive, name, scope)[1]
    files = [name for name in archive.left if name.startswith("code/") and name.endswith(".py")]
    for name in files:
        reasons += _code(archive, name)
    for name in [name for name in archive.left if name.startswith("extra/")]:
        content = archive.take(name)
        scope.inner(name, content if content is not None else memoryview(b""))
    archive.done()
    reasons.append(_review(len(files)))
    return Reading(covered=archive.zip.covered, reasons=most(reasons), facts={"code_files": len(files)})


def _pickle(archive: Archive, name: str, scope: Scope) -> tuple[Ran | None, list[Reason]]:
    pickled = archive.take(name)
    if pickled is None:
        return None, []
    ran = run(pickled, scope, dialect=TORCH_SCRIPT)
    return ran, [*ran.reasons, *([trailing(pickled, ran.end)] if 0 <= ran.end < len(pickled) else [])]


def _code(archive: Archive, name: str) -> list[Reason]:
    content = archive.take(name)
    why = outside(bytes(content or b""))
    if not why:
        return []
    return [Reason(rule=f"{NAME}:code", where=f"member `{shown(name)}`", why=why, remedy=REMEDY)]


def _review(files: int) -> Reason:
    why = f"it carries {files} files of code by design, which run when the model does"
    return Reason(rule=f"{NAME}:carries-code", where="whole archive", why=why, remedy=REMEDY, weight="review")
