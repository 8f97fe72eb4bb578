"""A kept safetensors file, or a folder of them, is parted into headers and tensors, so that a loader can verify one tensor when it reads it and nothing else.

1. The kept bytes are measured (measure.py); they must have the digest under which they are kept.
2. The manifest's digest goes into the `import` vouch: whoever has the manifest (`vouchgate digest PATH --manifest OUT` writes the same one) can hold
   each part to it without reading the others.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing

from vouchgate.evidence.merkle import content_digest, manifest_digest
from vouchgate.flows.measure import measure
from vouchgate.flows.stored_place import Kept, StoredPlace
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import StoreDamaged

FORMATS = frozenset({"safetensors"})
"""Whose tensors lie where the file itself says, byte by byte (evidence/tensor_ranges.py)."""


def manifest_name(kept: Kept, digest: Digest, formats: Collection[str]) -> str:
    """`sha256-manifest:...` of a kept file or folder, by the formats that the scanner read in it, or nothing where nothing of it is parted. Raises
    `StoreDamaged`, and what reading raises."""
    if FORMATS.isdisjoint(formats):
        return ""
    with closing(StoredPlace(kept, digest)) as place:
        manifest = measure(place)
    if content_digest(manifest).text != digest.text:
        raise StoreDamaged(f"the content of `{digest.text}` no longer has that digest", remedy="check the disk and import it again")
    return manifest_digest(manifest).text if any(len(file.parts) > 1 for file in manifest.files) else ""
