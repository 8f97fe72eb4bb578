"""What a cluster is given so that it asks the gate: a ValidatingWebhookConfiguration and the Service behind it.

Rules
1. `failurePolicy: Fail`: where the gate does not answer, nothing that it would have looked at is taken.
2. Every kind that named.py knows is asked about, by any version (`matchPolicy: Equivalent`), ephemeral containers too.
3. Either the namespaces that are labelled `vouchgate.dev/gate=enforce`, or all but the cluster's own and the gate's: a gate that has to be asked before
   it can start would never start.
"""

from __future__ import annotations

import base64
from typing import Any, Literal

from vouchgate.edges.kubernetes.webhook import PATH

LABEL, ENFORCE = "vouchgate.dev/gate", "enforce"
SECONDS = 10
"""What the API server waits; the gate answers within review.ANSWER_SECONDS."""
OWN = ("kube-system", "kube-node-lease", "kube-public")
_NAME = "kubernetes.io/metadata.name"
RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("", ("pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers")),
    ("apps", ("deployments", "replicasets", "statefulsets", "daemonsets")),
    ("batch", ("jobs", "cronjobs")),
    ("serving.kserve.io", ("inferenceservices", "trainedmodels", "llminferenceservices", "servingruntimes", "clusterservingruntimes")),
)


def manifests(*, namespace: str, service: str, ca: bytes, which: Literal["labelled", "all"]) -> dict[str, Any]:
    """A List of both. `ca` is the PEM bundle by which the API server knows the gate."""
    rules = [
        {"apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": list(names), "scope": "*"}
        for group, names in RULES
    ]
    webhook = {
        "name": "models.vouchgate.dev",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "NoneOnDryRun",
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": SECONDS,
        "namespaceSelector": {"matchExpressions": _selected(namespace, which)},
        "rules": rules,
        "clientConfig": {
            "caBundle": base64.b64encode(ca).decode("ascii"),
            "service": {"namespace": namespace, "name": service, "path": PATH, "port": 443},
        },
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "vouchgate-models"},
        "webhooks": [webhook],
    }
    labels = {"app.kubernetes.io/name": service}
    reached = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service, "namespace": namespace, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "https", "port": 443, "targetPort": "gate", "protocol": "TCP"}]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [reached, configuration]}


def _selected(namespace: str, which: str) -> list[dict[str, Any]]:
    """Rule 3."""
    if which == "labelled":
        return [{"key": LABEL, "operator": "In", "values": [ENFORCE]}]
    return [{"key": _NAME, "operator": "NotIn", "values": sorted({*OWN, namespace})}]
