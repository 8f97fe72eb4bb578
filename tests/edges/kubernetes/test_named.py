"""What a Kubernetes object names is read from where clusters put it; what names nothing fixed, or cannot be read, is refused with where it stands."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from vouchgate.edges.kubernetes.named import MODEL, TEMPLATES, Named, named
from vouchgate.vocabulary.errors import InvalidInput

ONE, TWO = "sha256:" + "a1" * 32, "sha256-tree:" + "b2" * 32
PINNED = "registry.local/models/digits@" + ONE


def template(spec: dict[str, Any] | None = None, model: str | None = None, **annotations: str) -> dict[str, Any]:
    told = dict(annotations) | ({MODEL: model} if model is not None else {})
    return {"metadata": {"annotations": told}, "spec": {"containers": [{"name": "web", "image": "web:1"}], **(spec or {})}}


def placed(group: str, kind: str, made: dict[str, Any]) -> dict[str, Any]:
    for step in reversed(TEMPLATES[group, kind]):
        made = {step: made}
    return made


@pytest.mark.parametrize(("group", "kind"), sorted(TEMPLATES))
def test_the_annotation_is_read_where_pods_get_it_from(group: str, kind: str) -> None:
    assert named(group, kind, placed(group, kind, template(model=f"{TWO}, {ONE} {ONE}"))) == Named((TWO, ONE), (), pod=True)
    assert named(group, kind, placed(group, kind, template())) == Named(pod=True)


@pytest.mark.parametrize(("group", "kind"), sorted(key for key, way in TEMPLATES.items() if way))
def test_an_annotation_that_pods_do_not_get_is_refused(group: str, kind: str) -> None:
    made = placed(group, kind, template()) | {"metadata": {"annotations": {MODEL: ONE}}}
    with pytest.raises(InvalidInput, match="not in its pod template"):
        named(group, kind, made)


SOURCES: list[tuple[dict[str, Any], str]] = [
    ({"volumes": [{"name": "m", "image": {"reference": "registry.local/models/digits:1"}}]}, "not named by its digest"),
    ({"volumes": [{"name": "m", "image": {"reference": f"x@{ONE[:-1]}"}}]}, "not a digest"),
    ({"volumes": [{"name": "m", "image": {"reference": f"@{ONE}"}}]}, "not named by its digest"),
    ({"volumes": [{"name": "m", "image": {}}]}, "no text"),
    ({"initContainers": [{"name": "storage-initializer", "args": ["s3://bucket/m", "/mnt/models"]}]}, "which content"),
    ({"initContainers": [{"name": "storage-initializer", "args": ["https://host/m", "/mnt/models"]}]}, "which content"),
    ({"initContainers": [{"name": "x", "image": "kserve/storage-initializer:v1", "args": ["ftp://h/m"]}]}, "which content"),
    ({"initContainers": [{"name": "fetch", "args": ["--from=S3://bucket/m"]}]}, "which content"),
    ({"initContainers": [{"name": "fetch", "command": ["sh", "-c", "aws s3 cp 's3://bucket/m' /m"]}]}, "which content"),
    ({"initContainers": [{"name": "fetch", "env": [{"name": "MODEL", "value": "hf://org/model"}]}]}, "which content"),
    ({"initContainers": [{"name": "fetch", "args": ["oci://registry.local/m:1"]}]}, "not named by its digest"),
    ({"containers": [{"name": "modelcar", "image": "registry.local/m:1"}]}, "not named by its digest"),
]


@pytest.mark.parametrize(("spec", "why"), SOURCES)
def test_a_source_that_names_no_content_is_refused(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        named("", "Pod", template(spec))


@pytest.mark.parametrize("spec", [spec for spec, why in SOURCES if why == "which content"])
def test_beside_the_annotation_such_a_source_is_taken(spec: dict[str, Any]) -> None:
    found = named("apps", "Deployment", placed("apps", "Deployment", template(spec, model=ONE)))
    assert found.digests == (ONE,)
    assert len(found.sources) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": "m", "image": {"reference": PINNED, "pullPolicy": "Always"}}]},
        {"initContainers": [{"name": "fetch", "args": [f"oci://{PINNED}"]}]},
        {"containers": [{"name": "modelcar", "image": PINNED}]},
    ],
)
def test_an_image_by_its_digest_names_content(spec: dict[str, Any]) -> None:
    assert named("", "Pod", template(spec)).digests == (ONE,)


def test_a_model_of_an_image_stands_beside_the_annotations() -> None:
    spec = {"volumes": [{"name": "m", "image": {"reference": PINNED}}]}
    assert named("", "Pod", template(spec, model=TWO)).digests == (TWO, ONE)


def test_ephemeral_containers_are_looked_at() -> None:
    spec = {"ephemeralContainers": [{"name": "modelcar-debug", "image": "registry.local/m:1"}]}
    with pytest.raises(InvalidInput, match="not named by its digest"):
        named("", "Pod", template(spec))


def kserve(predictor: dict[str, Any], **annotations: str) -> dict[str, Any]:
    return {"metadata": {"name": "m", "annotations": annotations}, "spec": {"predictor": predictor}}


def test_kserve_sources_need_the_annotation_or_a_digest() -> None:
    uri = {"model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://bucket/m"}}
    for predictor in (
        uri,
        {"storageUris": [{"uri": "hf://org/m", "mountPath": "/mnt"}]},
        {"model": {"storage": {"key": "minio", "path": "m"}}},
        {"sklearn": {"storageUri": "pvc://claim/m"}},
        {"initContainers": [{"name": "fetch", "args": ["gs://bucket/m"]}]},
        {"workerSpec": {"containers": [], "volumes": [{"name": "v", "image": {"reference": "r/m:1"}}]}},
    ):
        with pytest.raises(InvalidInput, match=r"which content|not named by its digest"):
            named("serving.kserve.io", "InferenceService", kserve(predictor))
    assert named("serving.kserve.io", "InferenceService", kserve(uri, **{MODEL: ONE})).digests == (ONE,)
    assert named("serving.kserve.io", "InferenceService", kserve(uri | {"annotations": {MODEL: ONE}})).digests == (ONE,)
    assert named("serving.kserve.io", "InferenceService", kserve({"model": {"storageUri": f"oci://{PINNED}"}})).digests == (ONE,)
    with pytest.raises(InvalidInput, match="says two things"):
        named("serving.kserve.io", "InferenceService", kserve(uri | {"annotations": {MODEL: TWO}}, **{MODEL: ONE}))
    trained = {"metadata": {"annotations": {MODEL: ONE}}, "spec": {"model": {"storageUri": "gs://b/m", "framework": "onnx"}}}
    assert named("serving.kserve.io", "TrainedModel", trained).digests == (ONE,)
    large = {"metadata": {}, "spec": {"model": {"uri": "hf://org/m"}}}
    with pytest.raises(InvalidInput, match="which content"):
        named("serving.kserve.io", "LLMInferenceService", large)


@pytest.mark.parametrize(
    "value",
    ["", " , ", "sha256:00", ONE.upper(), f"{ONE};{TWO}", "latest", ONE + "\u200b", " ".join(f"sha256:{n:064x}" for n in range(17))],
)
def test_an_annotation_that_says_nothing_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput):
        named("", "Pod", template(model=value))


@pytest.mark.parametrize("key", ["vouchgate.dev/models", "Vouchgate.dev/model", "vouchgate.dev/", "vouchgate.dev/waive"])
def test_what_speaks_in_our_name_and_is_not_known_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput, match="not known"):
        named("", "Pod", template(model=ONE, **{key: "yes"}))


@pytest.mark.parametrize(
    "thing",
    [
        {"metadata": {"annotations": {MODEL: ONE}}},
        {"spec": {"template": {"metadata": {"annotations": {MODEL: ONE}}}}},
        {"spec": {"podAnnotations": {MODEL: ONE}}},
        {"spec": {"list": [{"annotations": {"VOUCHGATE.DEV/model": ONE}}]}},
    ],
)
def test_an_unknown_kind_that_speaks_in_our_name_is_refused(thing: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="does not know"):
        named("ray.io", "RayCluster", thing)
    assert named("ray.io", "RayCluster", {"spec": {"image": "x"}}) == Named()


def test_objects_that_are_too_much_or_no_objects_are_refused() -> None:
    deep: Any = {}
    for _ in range(100):
        deep = {"a": deep}
    wide = {"a": [0] * 100_001}
    for thing in (deep, wide):
        with pytest.raises(InvalidInput, match="more than"):
            named("", "Pod", thing)
    good = template({"volumes": [{"name": "m", "image": {"reference": PINNED}}]}, model=ONE)
    for path in (
        [],
        ["metadata"],
        ["metadata", "annotations"],
        ["spec"],
        ["spec", "volumes"],
        ["spec", "containers"],
        ["spec", "containers", 0],
    ):
        for wrong in ("text", 7, True):
            broken: Any = copy.deepcopy(good)
            if not path:
                continue
            here = broken
            for step in path[:-1]:
                here = here[step]
            here[path[-1]] = wrong
            with pytest.raises(InvalidInput):
                named("", "Pod", broken)
