"""NVIDIA NeMo archives: a tar with `model_config.yaml`, a checkpoint, and what the configuration refers to.

Rules (NeMo, `core/connectors/save_restore_connector.py`; hydra, "Instantiating objects with Hydra")
1. The configuration's `_target_` and `target` are names that loading imports and calls: each is a class of NeMo's own collections, or one that targets.py lists.
   Everything else that yaml_events.py speaks against counts too.
2. The checkpoint is read as PyTorch's; loading unpickles it whatever its name ends in.
3. Every other member is scanned as a file is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vouchgate.scanning.archived import members_of, scan_member
from vouchgate.scanning.python_names import HIDDEN_MODULES
from vouchgate.scanning.scope import Scope, shown
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.targets import harmless_target
from vouchgate.scanning.tars import is_tar, listed, open_tar
from vouchgate.scanning.verdict import Reading, Reason, Refuse
from vouchgate.scanning.yaml_events import MAX_YAML, NoYaml, read_events

NAME = "nemo"
CONFIG = "model_config.yaml"
LOOKED_AT = 256
"""Members listed to recognise an archive."""
MAX_PARTS = 10
"""Parts of a class's full name."""
REMEDY = "restore the model where you trust where it came from, and save its weights as safetensors beside a configuration that you wrote"
_OWN = ("nemo.collections.", "nemo.core.", "nemo.lightning.")
_WEIGHTS = ("torch-zip", "pickle", "safetensors")


def recognise(sight: Sight) -> Claim:
    """A tar with a configuration at its top."""
    if is_tar(sight.view) and any(name == CONFIG for name, _ in listed(sight.view, LOOKED_AT)):
        return Claim(strength="certain", kind=NAME, because=f"a tar archive with {CONFIG}", above=("tar", "zip"))
    return NOT_MINE


def read(sight: Sight, scope: Scope) -> Reading:
    """The configuration, the checkpoint, the rest."""
    archive = open_tar(sight.view, scope, NAME)
    reasons: list[Reason] = []
    for name, content in members_of(archive, scope):
        if name == CONFIG:
            scope.spend_member(name)
            reasons += _config(content())
        else:
            scan_member(name, content(), scope, only=_WEIGHTS if name.endswith(".ckpt") else ())
    return Reading(covered=archive.covered, reasons=tuple(reasons), facts={"members": len(archive.files)})


def _config(view: memoryview) -> list[Reason]:
    """Rule 1."""
    text = Sight(view).text
    if text is None or len(text) > MAX_YAML:
        raise Refuse(f"{NAME}:config", CONFIG, f"it is no UTF-8 text, or over {MAX_YAML} characters", REMEDY)
    try:
        document = read_events(text)
    except NoYaml:
        raise Refuse(
            f"{NAME}:no-library", CONFIG, "reading it needs the `pyyaml` library", "`pip install 'vouchgate[scan]'`", "incomplete"
        ) from None
    if document.fault or document.roots != ["mapping"]:
        raise Refuse(f"{NAME}:config", CONFIG, f"it is not one YAML mapping: {document.fault or 'another document or value'}", REMEDY)
    reasons = [
        Reason(rule=f"{NAME}:{rule}", where=f"{CONFIG}, line {line}", why=why, remedy=REMEDY, weight="refused" if heavy else "review")
        for line, rule, why, heavy in document.acts
        if rule != "target"
    ]
    if any(reason.weight == "refused" for reason in reasons):
        return reasons  # aliases may go round or multiply: nothing is composed from such a document
    return reasons + [_called(line, name) for line, name in _targets(text) if not _harmless(name)]


def _called(line: int, name: str) -> Reason:
    return Reason(
        rule=f"{NAME}:target",
        where=f"{CONFIG}, line {line}",
        why=f"loading it imports and calls `{shown(name)}`, which is not known to be harmless",
        remedy=REMEDY,
    )


def _harmless(name: str) -> bool:
    if harmless_target(name):
        return True
    parts = name.split(".")
    plain = all(part.isascii() and part.isidentifier() and not part.startswith("_") and part not in HIDDEN_MODULES for part in parts)
    return name.startswith(_OWN) and len(parts) <= MAX_PARTS and plain and parts[-1][:1].isupper()


def _is_path(name: str) -> bool:
    """Whether a `target` could be a name to import; a number or a sentence is none."""
    parts = name.strip().split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _targets(text: str) -> Iterator[tuple[int, str]]:
    """Line and value of every `_target_`, and of every `target` that is a name with dots; a value that is no text is told as such."""
    import yaml

    waiting: list[Any] = [yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    seen: set[int] = set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                waiting += [key, value]
                name = value.value if isinstance(value, yaml.ScalarNode) else "a value that is no name"
                if key.value == "_target_" or (key.value == "target" and _is_path(name)):
                    yield key.start_mark.line + 1, name
