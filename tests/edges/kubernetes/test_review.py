"""An AdmissionReview is answered for its uid: allowed where every named model may be deployed, else refused with all reasons; never left open."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from vouchgate.edges.kubernetes import review
from vouchgate.edges.kubernetes.named import MODEL
from vouchgate.edges.kubernetes.review import How, answer
from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest
from vouchgate.vocabulary.decisions import Missing
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

ONE, TWO = "sha256:" + "a1" * 32, "sha256-tree:" + "b2" * 32


class Plane:
    """A control plane's answers."""

    def __init__(self, *allowed: str) -> None:
        self.allowed, self.asked = set(allowed), list[GateRequest]()

    async def __call__(self, request: GateRequest) -> GateOutcome:
        self.asked.append(request)
        allowed = request.digest in self.allowed
        missing = () if allowed else (Missing(predicate="scan", subject=request.digest, why="absent", remedy="import it"),)
        return GateOutcome(
            allowed=allowed,
            digest=request.digest,
            resource="vg://t/artifact/x",
            decision_id="d",
            reason="no policy permits it",
            missing=missing,
        )


def pod(*models: str, name: str = "web-1") -> dict[str, Any]:
    return {"metadata": {"name": name, "annotations": {MODEL: " ".join(models)} if models else {}}, "spec": {"containers": [{"name": "c"}]}}


def asked(thing: Any, **more: Any) -> bytes:
    request = {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "name": "web-1", "namespace": "shop", "operation": "CREATE",
        "userInfo": {"username": "admin"}, "object": thing, "oldObject": None, "dryRun": False, "options": {},
    }  # fmt: skip
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request | more}).encode()


def answered(data: bytes, plane: Any = None, how: How = How()) -> dict[str, Any]:
    said = json.loads(asyncio.run(answer(data, how, plane or Plane())))
    assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert said["response"]["uid"] == "705ab4f5-6393-11e8-b7cc-42010a800002"
    return said["response"]


def test_every_named_model_must_be_allowed_and_all_refusals_are_told() -> None:
    assert answered(asked(pod(ONE, TWO)), Plane(ONE, TWO)) == {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": True}
    assert not answered(asked(pod(ONE, TWO)), Plane(ONE))["allowed"]
    said = answered(asked(pod(ONE, TWO)), Plane())
    assert said["status"]["code"] == 403
    for word in (ONE, TWO, "missing scan (absent)", "import it"):
        assert word in said["status"]["message"]


def test_the_question_says_what_for_where_and_whether_it_counts() -> None:
    plane = Plane(ONE)
    answered(asked(pod(ONE), dryRun=True), plane, How(zones={"shop": "serve"}, purpose="sales"))
    generated = pod(ONE) | {"metadata": {"generateName": "web-", "annotations": {MODEL: ONE}}}
    answered(asked(generated, name="", namespace="other"), plane, How(zones={"shop": "serve"}))
    first, second = plane.asked
    assert (first.act, first.subject, first.target, first.purpose, first.dry_run) == ("deploy", "Pod shop/web-1", "serve", "sales", True)
    assert (second.subject, second.target, second.dry_run) == ("Pod other/web-", "", False)


def test_a_pod_without_a_model_passes_unless_every_pod_needs_one() -> None:
    assert answered(asked(pod()))["allowed"]
    assert not answered(asked(pod()), how=How(every_pod=True))["allowed"]
    config = {"metadata": {"name": "c"}, "data": {}}
    assert answered(asked(config, kind={"group": "", "version": "v1", "kind": "ConfigMap"}), how=How(every_pod=True))["allowed"]


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
def test_what_ends_is_not_looked_at(operation: str) -> None:
    assert answered(asked(None, operation=operation, oldObject=pod(ONE)))["allowed"]


def test_an_update_that_changes_no_model_passes_so_that_a_revoked_one_can_end() -> None:
    plane = Plane()
    assert answered(asked(pod(ONE), operation="UPDATE", oldObject=pod(ONE)), plane)["allowed"]
    assert plane.asked == []
    for new, old in ((pod(TWO), pod(ONE)), (pod(ONE, TWO), pod(ONE)), (pod(ONE), pod()), (pod(ONE), None), (pod(ONE), {"spec": 7})):
        assert not answered(asked(new, operation="UPDATE", oldObject=old), plane)["allowed"]
    away = pod() | {"spec": {"initContainers": [{"name": "storage-initializer", "args": ["s3://b/m"]}]}}
    before = {**away, "metadata": pod(ONE)["metadata"]}
    assert not answered(asked(away, operation="UPDATE", oldObject=before), plane)["allowed"]


def test_a_patch_of_ephemeral_containers_is_looked_at() -> None:
    new = pod(ONE)
    new["spec"]["ephemeralContainers"] = [{"name": "modelcar-x", "image": "r/m@" + TWO}]
    more = {"operation": "UPDATE", "oldObject": pod(ONE), "subResource": "ephemeralcontainers"}
    assert not answered(asked(new, **more), Plane(ONE))["allowed"]
    assert answered(asked(new, **more), Plane(ONE, TWO))["allowed"]


@pytest.mark.parametrize("wrong", ["silent", "gone", "another digest", "no word", "slow", "wrong object"])
def test_whatever_goes_wrong_is_a_refusal_with_a_reason(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "ANSWER_SECONDS", 0.05)

    async def plane(request: GateRequest) -> GateOutcome:
        said = await Plane(request.digest)(request)
        if wrong in ("silent", "slow"):
            await asyncio.sleep(60)
        if wrong == "gone":
            raise Unavailable("the control plane is not running", remedy="start it")
        changed = {"digest": TWO} if wrong == "another digest" else {"allowed": 1}
        return GateOutcome(**({name: getattr(said, name) for name in said.__struct_fields__} | changed))

    thing: Any = "text" if wrong == "wrong object" else pod(ONE)
    said = answered(asked(thing), plane)
    assert said["allowed"] is False
    assert len(said["status"]["message"]) > 20


def test_messages_are_bounded() -> None:
    said = answered(asked(pod(*(f"sha256:{n:064x}" for n in range(16)))))
    assert len(said["status"]["message"]) <= review.MAX_MESSAGE


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        asked(pod()).replace(b"admission.k8s.io/v1", b"admission.k8s.io/v1beta1"), asked(pod(), uid=""), asked(pod(), uid=7), asked(pod(), kind="Pod"),
    ],
)  # fmt: skip
def test_what_is_no_review_is_told_apart(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        asyncio.run(answer(data, How(), Plane()))
