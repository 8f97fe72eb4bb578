"""What disarm says when it is done: to a person, as JSON, and in the sidecar."""

from __future__ import annotations

from typing import Any

from vouchgate.scanning.disarm.found import Dropped, ties
from vouchgate.scanning.disarm.rebuild import Rebuilt
from vouchgate.scanning.disarm.tensors import Tensor
from vouchgate.vocabulary.wire import Noun

SIDECAR_VERSION = 1


class Disturbance(Noun, frozen=True, kw_only=True):
    """What disturbing the low bits did, measured."""

    bits: int
    tensors: int
    """Tensors of floating point numbers that were disturbed."""
    untouched: int
    """Tensors of other numbers, left as they were."""
    largest_relative: float
    """Largest |change| / |weight| over the sampled numbers."""
    output_relative: float
    """Largest |change of W x| / |W x| over the sampled matrices W, x random."""
    sampled: int
    """Numbers that were measured."""


class RebuildReport(Noun, frozen=True, kw_only=True):
    """The process's word on what it made of the artifact."""

    container: str
    format: str = "safetensors"
    tensors: int = 0
    bytes: int = 0
    """Bytes of the tensors."""
    tied: int = 0
    strided: int = 0
    """Tensors whose strides were not row-major: their numbers are in row-major order now, the strides are in the sidecar."""
    renamed: int = 0
    """Tensors whose dtype has no name in safetensors (complex128, quantised, records); the sidecar says what each was."""
    has_sidecar: bool = False
    dropped: tuple[Dropped, ...] = ()
    drops: int = 0
    disturbance: Disturbance | None = None
    confinement: tuple[str, ...] = ()


class Held(Noun, frozen=True, kw_only=True):
    """What became of reading the written file back."""

    identical: bool
    compared: int = 0
    """Bytes."""
    why: str = ""


def report_of(rebuilt: Rebuilt, confinement: tuple[str, ...], disturbance: Disturbance | None, *, has_sidecar: bool) -> RebuildReport:
    """Figures of what is written."""
    found = rebuilt.findings
    tensors = found.tensors.values()
    return RebuildReport(
        container=rebuilt.container,
        format=rebuilt.format,
        tensors=len(found.tensors),
        bytes=sum(tensor.size for tensor in tensors),
        tied=len(ties(found.tensors)),
        strided=sum(not tensor.contiguous for tensor in tensors),
        renamed=sum(bool(tensor.was) for tensor in tensors),
        has_sidecar=has_sidecar,
        dropped=tuple(found.dropped),
        drops=found.drops,
        disturbance=disturbance,
        confinement=confinement,
    )


def sidecar(rebuilt: Rebuilt) -> dict[str, Any] | None:
    """The document beside the tensors: values, what each unusual tensor was, what was dropped. None where there is nothing but plain tensors."""
    found = rebuilt.findings
    tied = ties(found.tensors)
    unusual = {name: _unusual(tensor, tied.get(name)) for name, tensor in found.tensors.items()}
    unusual = {name: told for name, told in unusual.items() if told}
    if not unusual and not found.dropped and _only_tensors(found.values, found.tensors):
        return None
    return {
        "vouchgate_disarm": SIDECAR_VERSION,
        "container": rebuilt.container,
        "tensors": unusual,
        "values": found.values,
        "dropped": [{"kind": one.kind, "where": one.where, "what": one.what, "why": one.why} for one in found.dropped],
        "drops": found.drops,
    }


def _unusual(tensor: Tensor, tied_to: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if tied_to is not None:
        told["tied_to"] = tied_to
    if not tensor.contiguous:
        told["strides"] = list(tensor.strides)
    if tensor.was:
        told["was"] = tensor.was
    return told


def _only_tensors(values: Any, tensors: dict[str, Tensor]) -> bool:
    """A flat dict of tensors under their own names: a state dict."""
    return isinstance(values, dict) and all(value == {"$tensor": name} and name in tensors for name, value in values.items())
