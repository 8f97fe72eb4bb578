"""Bounds of a scan, each with its unit and its reason; part of the settings digest that a `scan` vouch carries."""

from __future__ import annotations

import hashlib

from vouchgate.vocabulary.wire import Noun, encode


class ScanSettings(Noun, frozen=True, kw_only=True):
    """What a scan may spend before it refuses."""

    max_artifact_bytes: int = 64 * 1024**3
    """Bytes of one artifact; the largest single shard in use is about 50 GiB."""
    max_header_bytes: int = 16 * 1024**2
    """Bytes of a safetensors header: `max_tensors` entries of about 160 bytes. The library itself allows 100 MB."""
    max_tensors: int = 100_000
    """Tensors in one file; the largest sharded models have about 3,000 a shard."""
    max_rank: int = 64
    """Dimensions of one tensor; numpy allows 64."""
    max_name_bytes: int = 4_096
    """Bytes of a tensor's, node's or operator's name."""
    max_text_bytes: int = 8 * 1024**2
    """Bytes of one metadata or documentation string."""
    max_fields: int = 4_000_000
    """Protobuf fields read one by one (about 1 s a million); runs of packed numbers count once."""
    max_depth: int = 64
    """Nested protobuf messages; onnx's own readers stop at 100."""
    max_expanded_nodes: int = 2_000_000
    """Nodes after all local functions are written out, so that ten nested functions cannot become 2^10 copies."""
    max_nesting: int = 6
    """Containers within each other: a NeMo archive in a tar in a zip has three."""
    max_members: int = 100_000
    """Members of all containers of one artifact; a WebDataset shard has about 30,000."""
    max_unpacked_bytes: int = 16 * 1024**3
    """Bytes unpacked of all compressed members of one artifact; one at a time is in memory."""
    max_unpacked_member: int = 1024**3
    """Bytes of one compressed member: it is unpacked into memory."""
    max_pickle_steps: int = 20_000_000
    """Opcodes of one pickle; a forest of 1,000 trees has about 200,000."""


DEFAULTS = ScanSettings()


def settings_digest(settings: ScanSettings) -> str:
    """SHA-256 of the settings, hexadecimal."""
    return hashlib.sha256(encode(settings)).hexdigest()
