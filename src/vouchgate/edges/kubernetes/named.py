"""Which models a Kubernetes object names, read from the object alone.

Rules
1. A model is named by content: the annotation `vouchgate.dev/model` (digests parted by commas or spaces), or an OCI reference with a digest. It stands
   where pods get it from: on a pod, in a pod template, on a KServe resource.
2. A source that names no content (a bucket, a hub, a claim, an image by its tag) may change after it was admitted. It needs the annotation beside it;
   an OCI reference needs its digest in any case. Whether the bytes that arrive are the ones that were named is for the load guard in the pod.
3. Sources are looked for where clusters put them: image volumes, KServe's fields, its storage initializer and model cars, arguments and environment of
   init containers that are addresses of model stores.
4. What cannot be read, is too much, or says something in our name that is not known, is refused with where it stands.
5. A kind that is not known here and speaks in our name is refused: nobody knows whether its pods will carry what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vouchgate.vocabulary.digests import parse_digest
from vouchgate.vocabulary.errors import InvalidInput

PREFIX = "vouchgate.dev/"
MODEL = "vouchgate.dev/model"
MAX_DIGESTS = 16
"""Models of one object; each is a question."""
MAX_NODES = 100_000
"""Values of one object; etcd takes 1.5 MiB of them."""
MAX_DEPTH = 64
TEMPLATES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("", "Pod"): (),
    ("", "PodTemplate"): ("template",),
    ("", "ReplicationController"): ("spec", "template"),
    ("apps", "Deployment"): ("spec", "template"),
    ("apps", "ReplicaSet"): ("spec", "template"),
    ("apps", "StatefulSet"): ("spec", "template"),
    ("apps", "DaemonSet"): ("spec", "template"),
    ("batch", "Job"): ("spec", "template"),
    ("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
}
"""(group, kind) -> where its pod stands."""
KSERVE = frozenset({"InferenceService", "TrainedModel", "LLMInferenceService", "ServingRuntime", "ClusterServingRuntime"})
KSERVE_GROUP = "serving.kserve.io"
KSERVE_SOURCES = frozenset({"storageUri", "uri"})
INITIALIZER_SOURCE = "internal.serving.kserve.io/storage-initializer-sourceuri"
INITIALIZER = "storage-initializer"
MODEL_CAR = "modelcar"
STORES = frozenset(
    {"oci", "s3", "gs", "hf", "pvc", "hdfs", "webhdfs", "abfs", "abfss", "wasb", "wasbs", "modelscope", "model-registry", "mlflow"}
)
"""Schemes of addresses of model stores."""
_FIX = f"write `{MODEL}: sha256:<digest>` into the pod template; `vouchgate digest PATH` says which"


@dataclass(frozen=True)
class Named:
    """What an object names."""

    digests: tuple[str, ...] = ()
    """In their one spelling, each once."""
    sources: tuple[str, ...] = ()
    """Where models come from, whether they name content or not."""
    pod: bool = False
    """It is a pod or will be pods."""


def named(group: str, kind: str, thing: Any) -> Named:
    """What the object names. Raises `InvalidInput` for what is refused without a question (rules 2, 4 and 5)."""
    check_size(thing)
    if (group, kind) in TEMPLATES:
        return _of_template(thing, TEMPLATES[group, kind])
    if group == KSERVE_GROUP and kind in KSERVE:
        return _of_kserve(thing)
    for path, key in _ours(thing):
        raise InvalidInput(
            f"`{key[:80]}` stands at {path or 'the top'} of a `{kind[:80]}`, which this gate does not know",
            remedy="put it on the pods, or in a kind that docs/gates.md lists",
        )
    return Named()


def check_size(thing: Any) -> None:
    """Rule 4; what passes can be walked. Raises `InvalidInput`."""
    waiting, seen = [(thing, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if seen > MAX_NODES or depth > MAX_DEPTH:
            raise InvalidInput(f"the object has more than {MAX_NODES} values or {MAX_DEPTH} levels", remedy="split it")
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for one in value.values()]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]


def _of_template(thing: Any, way: tuple[str, ...]) -> Named:
    pod = thing
    for step in way:
        pod = _map(pod, step)
    if way and _annotations(thing, "metadata", ours=True):
        raise InvalidInput(f"`{MODEL}` stands on the object and not in its pod template", remedy="move it to the template's annotations")
    annotations = _annotations(pod, "metadata")
    return _joined(annotations, [*_noted(annotations), *_pod_sources(_map(pod, "spec"))], pod=True)


def _of_kserve(thing: Any) -> Named:
    """KServe hands the annotations of its resource on to the pods; pod specifications stand inside of it in several places."""
    annotations = _annotations(thing, "metadata")
    found = _noted(annotations)
    for path, value in _walk(_map(thing, "spec"), ""):
        if not isinstance(value, dict):
            continue
        for key in KSERVE_SOURCES & value.keys():
            found.append(_text(value[key], f"{path}.{key}"))
        if isinstance(value.get("storage"), dict):
            # a bucket by the name of its secret, and a path in it
            found.append(f"storage://{value['storage'].get('key') or 'default'}/{value['storage'].get('path') or ''}"[:400])
        if isinstance(value.get("annotations"), dict):
            annotations = _merged(annotations, _annotations(value, "annotations", whole=True), path)
        if any(isinstance(value.get(part), list) for part in ("containers", "initContainers", "volumes")):
            found += _pod_sources(value)
    return _joined(annotations, found, pod=False)


def _noted(annotations: Mapping[str, str]) -> list[str]:
    """KServe's own note of where its initializer fetches from."""
    return [annotations[INITIALIZER_SOURCE]] if INITIALIZER_SOURCE in annotations else []


def _joined(annotations: Mapping[str, str], sources: list[str], *, pod: bool) -> Named:
    """Rules 1 and 2."""
    digests = list(_digests(annotations.get(MODEL)))
    for source in sources:
        pinned = _pinned(source)
        if pinned is not None:
            digests.append(pinned)
        elif source.startswith("oci://"):
            raise InvalidInput(f"the image `{source[:200]}` is not named by its digest", remedy="write NAME@sha256:<digest>")
        elif MODEL not in annotations:
            raise InvalidInput(f"`{source[:200]}` does not say which content comes from it", remedy=_FIX)
    unique = tuple(sorted(set(digests)))
    if len(unique) > MAX_DIGESTS:
        raise InvalidInput(f"more than {MAX_DIGESTS} models are named", remedy="split the workload")
    return Named(digests=unique, sources=tuple(sorted(set(sources))), pod=pod)


def _digests(text: str | None) -> Iterator[str]:
    if text is None:
        return
    words = text.replace(",", " ").split()
    if not words:
        raise InvalidInput(f"`{MODEL}` is empty", remedy=_FIX)
    for word in words:
        yield parse_digest(word).text


def _pinned(source: str) -> str | None:
    """The digest of an OCI reference (distribution specification: `name@algorithm:hex`); None where it has none."""
    if not source.startswith("oci://"):
        return None
    name, at, digest = source.rpartition("@")
    if not at or not name.removeprefix("oci://"):
        return None
    return parse_digest(digest).text


def _pod_sources(spec: Mapping[str, Any]) -> list[str]:
    """Rule 3 for one pod's specification."""
    found: list[str] = []
    for volume in _items(spec, "volumes"):
        image = volume.get("image")
        if image is not None:
            found.append(_oci(_text(_map(volume, "image").get("reference"), "an image volume's reference")))
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in _items(spec, part):
            found += _container_sources(container, first=part == "initContainers")
    return found


def _container_sources(container: Mapping[str, Any], *, first: bool) -> list[str]:
    name, image = str(container.get("name") or ""), str(container.get("image") or "")
    found = [_oci(image)] if name.startswith(MODEL_CAR) else []
    words = [_text(one, "an argument") for part in ("command", "args") for one in _list(container, part)]
    words += [str(one.get("value") or "") for one in _items(container, "env")]
    if name == INITIALIZER or INITIALIZER in image:
        # its first argument is the source, whatever the scheme (KServe's storage initializer: SOURCE DESTINATION)
        found += [one for one in words if "://" in one]
    elif first:
        found += [address for word in words for address in _addresses(word)]
    return found


def _addresses(word: str) -> Iterator[str]:
    """`s3://...`, or `--model=s3://...`; words inside of one argument (a shell's line) too."""
    for part in word.replace("'", " ").replace('"', " ").split():
        scheme, mark, rest = part.rpartition("=")[2].partition("://")
        if mark and rest and scheme.lower() in STORES:
            yield f"{scheme.lower()}://{rest}"


def _oci(reference: str) -> str:
    return reference if reference.startswith("oci://") else f"oci://{reference}"


# -- reading what somebody else wrote


def _annotations(thing: Any, part: str, *, ours: bool = False, whole: bool = False) -> dict[str, str]:
    """Annotations of a metadata (or, `whole`, the map itself). With `ours` only those in our name. Raises `InvalidInput` (rule 4)."""
    held = _map(thing, part) if whole else _map(_map(thing, part), "annotations")
    found: dict[str, str] = {}
    for key, value in held.items():
        if key.lower().startswith(PREFIX) and key != MODEL:
            raise InvalidInput(f"the annotation `{key[:80]}` is not known", remedy=f"write `{MODEL}`, or take it away")
        if not ours or key == MODEL:
            found[key] = _text(value, f"the annotation `{key[:80]}`")
    return found


def _merged(one: Mapping[str, str], other: Mapping[str, str], path: str) -> dict[str, str]:
    if MODEL in one and MODEL in other and one[MODEL] != other[MODEL]:
        raise InvalidInput(f"`{MODEL}` says two things, on the object and at {path or 'its specification'}", remedy="say it once")
    return {**one, **other}


def _ours(thing: Any) -> Iterator[tuple[str, str]]:
    """Where an object speaks in our name."""
    for path, value in _walk(thing, ""):
        if isinstance(value, dict):
            for key in value:
                if key.lower().startswith(PREFIX) and "annotations" in path.lower():
                    yield path, key


def _walk(thing: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value and where it stands; `check_size` bounded it."""
    waiting = [(path, thing)]
    while waiting:
        here, value = waiting.pop()
        yield here, value
        if isinstance(value, dict):
            waiting += [(f"{here}.{key}"[:300], one) for key, one in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{here}[{index}]"[:300], one) for index, one in enumerate(value)]


def _map(thing: Any, part: str) -> dict[str, Any]:
    found = thing.get(part) if isinstance(thing, dict) else None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput(f"`{part}` is no object", remedy="send the object as the API server has it")
    return found


def _list(thing: Mapping[str, Any], part: str) -> list[Any]:
    found = thing.get(part)
    if found is None:
        return []
    if not isinstance(found, list):
        raise InvalidInput(f"`{part}` is no list", remedy="send the object as the API server has it")
    return found


def _items(thing: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    found = _list(thing, part)
    for one in found:
        if not isinstance(one, dict):
            raise InvalidInput(f"`{part}` holds what is no object", remedy="send the object as the API server has it")
    return found


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{what} is no text", remedy="write it as a string")
    return value
