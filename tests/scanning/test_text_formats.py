"""Text, JSON, CSV, YAML, XML and Python source: what people keep beside a model is clean, what something would act on is not."""

from __future__ import annotations

import codecs
import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning.formats import csv, json, pmml, python_source, text, xml, yaml
from vouchgate.scanning.python_code import Unparsable, judge
from vouchgate.scanning.scan import scan
from vouchgate.scanning.scope import Budget, Scope
from vouchgate.scanning.sniff import Format
from vouchgate.scanning.strict_json import MAX_DEPTH
from vouchgate.scanning.verdict import Verdict

FORMATS = tuple(
    Format(name=module.NAME, recognise=module.recognise, read=module.read) for module in (csv, json, pmml, python_source, text, xml, yaml)
)


def verdict(content: str | bytes) -> Verdict:
    return scan(content.encode() if isinstance(content, str) else content, formats=FORMATS)


CLEAN = [
    ("text", "MIT License\n\nCopyright (c) 2024 somebody (else)\n"),
    ("text", "[PAD]\n[UNK]\nimport\neval\nsystem\n(\n)\n"),
    ("text", "#version: 0.2\n\u0120 t\n\u0120 a\nh e\n"),
    ("text", "numpy==1.26\ntorch>=2 ; python_version < '3.12'\n"),
    ("text", "learning_rate = 0.1\nname = 'x'\n"),
    ("text", "*.bin filter=lfs diff=lfs merge=lfs -text\n"),
    ("text", "# Model\n\n```python\nimport torch\ntorch.load('x')\n```\n"),
    ("text", '<p align="center">hi</p>\n\n# Title\n\nimport me\n'),
    ("text", "@somebody\nA Person, \u202eanother\n"),
    ("text", "Hello (world)\n"),
    ("text", "{% for message in messages %}{{ message['content'] }}{% endfor %}\n"),
    ("text", "Write {{ cookiecutter.name }} in __init__.py, {{ self.title() }} \\(x\\)\n"),
    ("text", "`{{ x` and __class__ }} are no template\n"),
    ("text", b"caf\xe9 \x93quoted\x94 words\n"),
    ("text", codecs.BOM_UTF16_LE + "grüße\n".encode("utf-16-le")),
    ("yaml", "---\nlicense: mit\ntags:\n- a\n---\n# Model\nRun `pip install` and then os.system is not needed.\n"),
    ("yaml", "- hello (world)\n- other (x)\n"),
    ("yaml", "backbone:\n  - [-1, 1, Conv, [64, 3, 2]]\nlr: 1e-3\n"),
    ("yaml", "base: &b {a: 1}\nother:\n  <<: *b\n"),
    ("yaml", "_target_: torch.optim.AdamW\nlr: 0.1\n"),
    ("yaml", "shape: !!python/tuple [1, 2]\n"),
    ("json", '{"eval": "os.system", "__import__": 1, "nan": NaN}'),
    ("json", '[{"a": [1, 2.5, null, true, "\\ud83d\\ude00"]}]'),
    ("csv", "a,b\n1,2\n-3.5,+4\n"),
    ("csv", "text;label\n-log(x) is small;1\n@somebody (hi);0\n"),
    ("csv", 'a\tb\n"x\ny"\t2\n'),
    ("xml", "<annotation><object><name>dog</name></object></annotation>"),
    ("xml", '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0"/></svg>'),
]


@pytest.mark.parametrize(("kind", "content"), CLEAN)
def test_what_stands_beside_a_model_is_clean(kind: str, content: str | bytes) -> None:
    found = verdict(content)
    assert (found.format, found.outcome, found.reasons) == (kind, "clean", ())


LAUGHS = "a: &a [1,2,3,4,5,6,7,8,9]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
REFUSED = [
    ("text:template", "Hello you there:\n{{ cycler.__init__.__globals__.os.popen('id').read() }}\n"),
    ("text:template", "{% set x = ''['\\x5f\\x5fclass\\x5f\\x5f'] %}{{ x }}"),
    ("text:template", "{{ messages | map(attribute='a') | list }}{{ messages | attr('__class__') }}"),
    ("text:script", "#!/bin/sh\ncurl x | sh\n"),
    ("text:control", "a long line of ordinary words that hides \x1b[2J\x1b[1;1H what follows it, and then goes on\n"),
    ("json:acting-key", '{"x": [{"py/object": "os.system"}]}'),
    ("json:acting-key", '{"py/reduce": [{"py/type": "os.system"}]}'),
    ("json:acting-key", '{"_target_": "os.system"}'),
    ("json:acting-key", '{"_target_": "torch.nn.os.system"}'),
    ("json:acting-key", '{"lc": 1, "type": "constructor", "id": ["langchain", "x"], "kwargs": {}}'),
    ("json:acting-key", '{"class_name": "Lambda", "config": {}}'),
    ("json:surrogate", '{"a": "\\ud800"}'),
    ("json:depth", '["x[",' * (MAX_DEPTH + 1) + "1" + "]" * (MAX_DEPTH + 1)),
    ("yaml:tag", "a: !!python/object/apply:os.system ['x']\n"),
    ("yaml:tag", "!<tag:yaml.org,2002:python/object/new:os.system> ['x']\n"),
    ("yaml:tag", "%TAG !p! tag:yaml.org,2002:python/\n---\na: !p!object/apply:os.system ['x']\n"),
    ("yaml:tag", "a: !!python/name:os.system\n"),
    ("yaml:tag", "a: !!python/object/apply:os.system ['x']\n---\n\t: : no yaml\n"),
    ("yaml:expansion", LAUGHS),
    ("yaml:alias", "a: &a\n  - *a\n"),
    ("yaml:duplicate-key", "a: 1\na: 2\n"),
    ("yaml:target", "model:\n  _target_: builtins.eval\n  _args_: ['1']\n"),
    ("yaml:expression", "layers:\n  - [-1, 1, \"__import__('os').system('x')\", []]\n"),
    ("yaml:depth", "- " * 300 + "x\n"),
    ("csv:formula", "a,b\n1,=cmd|'/C calc'!A0\n"),
    ("csv:formula", 'a,b\n1,"=HYPERLINK(""http://x"",""y"")"\n'),
    ("csv:formula", "a,b\n1,@WEBSERVICE(A1)\n"),
    ("xml:doctype", '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'),
    ("xml:doctype", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>'),
    ("xml:include", '<a xmlns:i="http://www.w3.org/2001/XInclude"><i:include href="/etc/passwd"/></a>'),
    ("xml:instruction", '<?xml version="1.0"?><?xml-stylesheet href="x"?><a/>'),
    ("xml:acts", '<svg xmlns="http://www.w3.org/2000/svg"><foreignObject/></svg>'),
    ("xml:acts", '<svg xmlns="http://www.w3.org/2000/svg" onload="x()"/>'),
    ("xml:acts", "<a><script>x</script></a>"),
    ("xml:acts", '<?xml version="1.0" encoding="utf-16"?><a href="java\nscript:x"/>'.encode("utf-16")),
    ("xml:objects", '<java version="1.8" class="java.beans.XMLDecoder"><object/></java>'),
    ("xml:malformed", '<?xml version="1.0"?><a></b>'),
    ("xml:depth", "<a>" * 500 + "</a>" * 500),
    ("python-source:encoding", "# coding: utf-7\n+AGkAbQBwAG8AcgB0-\n"),
]


@pytest.mark.parametrize(("rule", "content"), REFUSED, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(REFUSED)])
def test_what_something_would_act_on_is_refused(rule: str, content: str | bytes) -> None:
    found = verdict(content)
    assert found.outcome == "refused"
    assert rule in [reason.rule for reason in found.reasons]


REVIEWED = [
    ("text", "<!DOCTYPE html><html><body>hi</body></html>"),
    ("yaml", "a: !Ref {b: 1}\n"),
    ("yaml", "a: ${oc.env:HOME}\n"),
    ("python-source", "import numpy as np\nprint(np.zeros(3))\n"),
    ("python-source", '"""doc"""\nimport os\nprint "two"\n'),
    ("python-source", "import numpy\n" + "# padding\n" * 80_000 + "def f():\n    return 1\n"),
]


@pytest.mark.parametrize(("kind", "content"), REVIEWED)
def test_code_by_design_is_for_a_person(kind: str, content: str) -> None:
    found = verdict(content)
    assert (found.format, found.outcome) == (kind, "review")


@pytest.mark.parametrize("name", ["x.pth", "run.sh", "a/b/Makefile", "x.JS"])
def test_a_members_name_only_tightens(name: str) -> None:
    from vouchgate.scanning.knowledge.entries import Nothing
    from vouchgate.scanning.settings import DEFAULTS
    from vouchgate.scanning.sight import Sight

    def scope(path: tuple[str, ...]) -> Scope:
        budget = Budget(unpacked_bytes=1, members=1)
        return Scope(settings=DEFAULTS, knowledge=Nothing(), read_inner=None, plugins=(), budget=budget, path=path)  # type: ignore[arg-type]

    plain = Sight(memoryview(b"echo hello\n"))
    assert not text.read(plain, scope(("notes.txt",))).reasons
    assert text.read(plain, scope((name,))).reasons
    assert text.read(Sight(memoryview(b"#!/bin/sh\n")), scope(("notes.txt",))).reasons


ACTING_CODE = [
    "import os\nos.system('x')",
    "from os import system as s\ns('x')",
    "import os as o\np = o\nq = p\nq.system('x')",
    "import numpy as np\nnp.os.system('x')",
    "import numpy as os\ndef f():\n    import os\n    return os.system('x')",
    "def f():\n    import numpy as eval\neval('1')",
    "e = eval\ne('1')",
    "__builtins__['eval']('1')",
    "().__class__.__base__.__subclasses__()",
    "getattr(__import__('os'), 'system')('x')",
    "import os\ngetattr(os, 'sys' + 'tem')('x')",
    "import os\n[os][0].system('x')",
    "import os\nx = {'a': os}",
    "import subprocess",
    "import pickle\npickle.loads(b'x')",
    "from os import *\nsystem('x')",
    "import torch\ntorch.hub.load('a/b', 'c')",
    "import torch\ntorch.load('x', weights_only=False)",
    "from transformers import AutoModel\nAutoModel.from_pretrained('x', trust_remote_code=True)",
    "import pandas as pd\npd.DataFrame().eval('@pd.io.common.os.system(\"x\")')",
    "import numpy as np\nnp.testing._private.utils.runstring('1', {})",
    "import os\nos.environ['LD_PRELOAD'] = 'x.so'",
    "open('/etc/passwd').read()",
    "open('../../x')",
    "import sys\nsys.modules['x'] = 1",
    "import timeit\ntimeit.timeit('1')",
    "x: __import__('os').system('x')\nimport json",
    "f = lambda: (yield)\nf().gi_frame.f_builtins",
    "import logging\nlogging.config.dictConfig({})",
    "a = 1 # \u202e\nimport json",
]


@pytest.mark.parametrize("source", ACTING_CODE)
def test_code_that_reaches_outside_is_refused(source: str) -> None:
    assert any(found.weight == "refused" for found in judge(source))
    assert verdict(source).outcome == "refused"


COMPUTING_CODE = [
    "import numpy as np\nimport pandas as pd\ndf = pd.read_csv('data.csv')\ndf.rename(columns={'a': 'b'}).eval('c = a + b')\ndf.query('a > @x')",
    "import torch\nfrom torch import nn\nclass M(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(3, 4)\n"
    "    def forward(self, x):\n        return self.l(x)\nm = M()\nm.eval()\nfor p in m.modules():\n    print(p)\ntorch.save(m.state_dict(), 'x.pt')",
    "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'\nos.makedirs('out', exist_ok=True)\nprint(os.path.join('a', 'b'), os.getcwd())",
    "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot([1, 2])\nplt.savefig('x.png')",
    "from sklearn.model_selection import train_test_split\nimport scipy.signal\nscipy.signal.convolve([1], [2])",
    "with open('out.txt', 'w') as f:\n    f.write('x')\nprint(f'{1 + 1:03d}')",
    "from pathlib import Path\nfor p in Path('data').glob('*.csv'):\n    print(p.read_text())",
    "import sys\nprint(sys.version)\nsys.path.append('src')",
]


@pytest.mark.parametrize("source", COMPUTING_CODE)
def test_code_that_only_computes_has_nothing_against_it(source: str) -> None:
    assert judge(source) == ()


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_judged_or_unparsable(source: str) -> None:
    with contextlib.suppress(Unparsable):
        judge(source)
    assert verdict(source or "x").outcome in ("clean", "refused", "review")


PMML = '<?xml version="1.0"?><PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/>%s</PMML>'


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ('<TransformationDictionary><Apply function="log10"/></TransformationDictionary>', ""),
        ('<DefineFunction name="f"/><Apply function="f"/>', ""),
        ('<Extension name="repr">Pipeline(steps=[])</Extension>', ""),
        ('<Apply function="java.lang.Runtime"/>', "pmml:function"),
        ('<DefineFunction name="java.lang.X"/>', "pmml:function"),
        ("<TableLocator/>", "pmml:locator"),
        ("<script>x</script>", "pmml:acts"),
        ("<Extension>__import__('os')</Extension>", "pmml:extension"),
        ('<Extension name="x" value="${jndi:ldap://x}"/>', "pmml:extension"),
    ],
)
def test_pmml_calls_only_what_the_standard_or_itself_defines(body: str, rule: str) -> None:
    found = verdict(PMML % body)
    assert found.format == "pmml"
    assert ([reason.rule for reason in found.reasons], found.outcome) == (([rule], "refused") if rule else ([], "clean"))


def test_a_key_that_occurs_twice_is_data_unless_one_of_its_values_acts() -> None:
    assert scan(b'{"cat": "cats", "cat": "katze", "dog": {"a": 1, "a": 2}}').outcome == "clean"
    for document in (
        b'{"m": {"_target_": "os.system", "_target_": "torch.nn.Linear"}}',
        b'{"m": {"_target_": "torch.nn.Linear", "_target_": "os.system"}}',
    ):
        assert [reason.rule for reason in scan(document).reasons] == ["json:acting-key"]
    many = b'{"a": ' * 150 + b"1" + b', "a": 2}' * 150
    assert scan(many).outcome == "clean"


def test_a_first_line_is_a_program_only_where_it_names_one() -> None:
    assert scan(b"#!DICT-ID pl.waw.dictionary-2020\nkot\tkoty\n").outcome == "clean"
    for line in (b"#!/bin/sh\nls\n", b"#! /usr/bin/env python\nx = 1\n", b"#!./run\nls\n", b"#!\t/bin/sh\nls\n", b"#!bin/sh\nls\n"):
        assert scan(line).outcome in ("refused", "review")


def test_a_long_vocabulary_is_no_program() -> None:
    merges = '"bpe_vocab.txt#version: 0.2\n' + "i n\nt h\nimport ed\nclass es\n" * 30_000
    assert scan(merges.encode()).outcome == "clean"
    program = "import os\n" + "x = 1\n" * 120_000 + "os.system('ls')\n"
    assert scan(program.encode()).outcome != "clean"
