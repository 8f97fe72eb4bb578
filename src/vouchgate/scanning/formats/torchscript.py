"""TorchScript files: PyTorch's zip with code. Clean where that code only computes; refused where it reaches outside.

Rules (torch `csrc/jit/docs/serialization.md`)
1. The archive's structure, plain members and storages: torch_archives.py.
2. Each pickle at the top is judged by the machine, its storages lie in the folder of its name; classes below `__torch__` are the file's own, and
   what they do stands in `code/`. Code may stand elsewhere too: the bytecode of mobile files is for a person.
3. All files of `code/` are read together as syntax trees, and hold nothing but torch's operators and calls of each other (torchscript_code.py).
   Debug records beside them are pickles too.
4. A file of another name in the archive is read on its own; `extra/` is for the user's own.
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
from vouchgate.scanning.torchscript_code import judge
from vouchgate.scanning.verdict import Reading, Reason, Weight

NAME = "torchscript"
TRACED = "traced_inputs.pkl"
"""Inputs that a trace was made with: tensors without their data."""
PICKLES = ("data.pkl", "constants.pkl", TRACED)
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
    made: set[str] = set()
    for name in [name for name in archive.left if name.endswith(".pkl") and "/" not in name]:
        if name not in PICKLES:
            reasons.append(_reason(name, "it holds code in another form than source, which is not read", "review"))
        ran, found = _pickle(archive, name, scope)
        reasons += found
        if ran is not None and not found:
            archive.storages(referred(ran), f"{name.removesuffix('.pkl')}/", may_lack=name == TRACED)
            made |= {one.full for one in ran.names if one.module.partition(".")[0] == TORCH_SCRIPT.own}
    for name in [name for name in archive.left if name.endswith(".debug_pkl")]:
        reasons += _pickle(archive, name, scope)[1]
    names = [name for name in archive.left if name.startswith("code/") and name.endswith(".py")]
    files = {name: bytes(archive.take(name) or b"") for name in names}
    reasons += [_reason(found.file, found.why, found.weight) for found in judge(files, made)]
    for name in [name for name in archive.left if name.startswith("extra/")]:
        content = archive.take(name)
        scope.inner(name, content if content is not None else memoryview(b""))
    archive.done()
    reasons.sort(key=lambda reason: reason.weight == "review")
    return Reading(covered=archive.zip.covered, reasons=most(reasons), facts={"code_files": len(files)})


def _pickle(archive: Archive, name: str, scope: Scope) -> tuple[Ran | None, list[Reason]]:
    pickled = archive.take(name)
    if pickled is None:
        return None, []
    ran = run(pickled, scope, dialect=TORCH_SCRIPT)
    return ran, [*ran.reasons, *([trailing(pickled, ran.end)] if 0 <= ran.end < len(pickled) else [])]


def _reason(name: str, why: str, weight: Weight) -> Reason:
    rule = f"{NAME}:{'carries-code' if weight == 'review' else 'code'}"
    return Reason(rule=rule, where=f"member `{shown(name)}`", why=why, remedy=REMEDY, weight=weight)
