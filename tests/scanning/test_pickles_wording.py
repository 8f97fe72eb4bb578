"""What a refusal suggests: nobody is told to answer for a name that acts."""

from __future__ import annotations

import pytest

from vouchgate.scanning.scan import scan

ACTS = (
    ("os", "system"),
    ("posix", "system"),
    ("subprocess", "Popen"),
    ("builtins", "eval"),
    ("__builtin__", "eval"),
    ("nt", "system"),
    ("importlib.machinery", "SourceFileLoader"),
    ("torch.hub", "load"),
    ("torch.hub", "Loader"),
    ("numpy.testing._private.utils", "runstring"),
    ("sklearn.utils.Anything", "Anything"),
    ("pip", "main"),
    ("acme.tools", "run_command"),
    ("acme.tools", "_run"),
    ("acme.tools", "Runner.run"),
)
OWN = (("acme.features", "Scaler"), ("acme", "_Scaler"), ("__main__", "Net"), ("acme.features", "Outer.Inner"))


def told(module: str, name: str, how: bytes) -> str:
    """All remedies of a pickle that uses this name."""
    pickled = b"\x80\x04\x8c" + bytes((len(module),)) + module.encode() + b"\x8c" + bytes((len(name),)) + name.encode() + b"\x93" + how
    verdict = scan(pickled)
    assert verdict.outcome == "refused"
    return " ".join(reason.remedy for reason in verdict.reasons)


@pytest.mark.parametrize("how", [b")R.", b")\x81.", b"."], ids=["called", "constructed", "held"])
@pytest.mark.parametrize(("module", "name"), ACTS)
def test_a_name_that_acts_is_not_to_be_allowed(module: str, name: str, how: bytes) -> None:
    remedies = told(module, name, how)
    assert remedies
    assert "knowledge allow" not in remedies


@pytest.mark.parametrize("how", [b")\x81.", b"."], ids=["constructed", "held"])
@pytest.mark.parametrize(("module", "name"), OWN)
def test_a_class_that_somebody_could_have_written_may_be_answered_for(module: str, name: str, how: bytes) -> None:
    assert f"`vouchgate knowledge allow {module}.{name} --for" in told(module, name, how)
