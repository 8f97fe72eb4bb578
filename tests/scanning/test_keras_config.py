"""An architecture of Keras in a file of its own, and JSON whose values are of kinds that nobody expects there."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from vouchgate.scanning.scan import scan

DENSE = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3, "activation": "relu"}, "registered_name": None}
MODEL = {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [DENSE]}, "registered_name": None}
OLD_LAMBDA = {"class_name": "Lambda", "config": {"function": ["4wAAAA==", None, None], "function_type": "lambda"}}
YAML = (
    "backend: tensorflow\nclass_name: Sequential\nkeras_version: 2.5.0\nconfig:\n  layers:\n  - class_name: {}\n    config: {{units: 3}}\n"
)


def with_layer(layer: dict[str, Any]) -> str:
    return json.dumps(MODEL | {"config": {"layers": [layer]}})


@pytest.mark.parametrize("content", [json.dumps(MODEL), YAML.format("Dense")])
def test_layers_of_keras_are_clean(content: str) -> None:
    found = scan(content.encode())
    assert (found.outcome, found.format) == ("clean", "keras-config")


@pytest.mark.parametrize(
    ("rule", "content"),
    [
        ("class", json.dumps({"module": "os", "class_name": "system", "config": {"command": "x"}, "registered_name": None})),
        ("lambda", with_layer(OLD_LAMBDA)),
        ("class", with_layer(DENSE | {"class_name": "Mine"})),
        ("module", with_layer(DENSE | {"module": "mine"})),
        ("module", with_layer(DENSE | {"module": {"a": 1}})),
        ("class", with_layer(DENSE | {"class_name": ["a"]})),
        ("function", with_layer({"class_name": "function", "config": {"name": ["x"]}})),
        ("lambda", YAML.format("Lambda")),
        ("tag", YAML.format("!!python/name:os.system ''")),
        ("duplicate-key", '{"class_name": "Model", "class_name": "Model", "config": {}, "module": "keras"}'),
    ],
)
def test_what_a_loader_would_import_or_run_is_refused(rule: str, content: str) -> None:
    found = scan(content.encode())
    assert (found.outcome, f"keras-config:{rule}") == ("refused", next(reason.rule for reason in found.reasons))


@pytest.mark.parametrize(
    "content", ['{"class_name": "Mine", "config": {}}', '{"class_name": 1, "config": {}}', "class_name: x\nconfig: {}\n"]
)
def test_other_programs_configurations_are_none(content: str) -> None:
    assert scan(content.encode()).format in ("json", "yaml")


# --- values of any kind anywhere ---------------------------------------------------------------------------------------------------------

NOTEBOOK = {
    "cells": [{"cell_type": "code", "metadata": {}, "source": ["1 + 1"], "execution_count": 1, "outputs": [{"output_type": "stream", "text": "2"}]}],
    "metadata": {"kernelspec": {"name": "python3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5,
}  # fmt: skip
OLD_NOTEBOOK = {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [{"cell_type": "code", "input": "1"}]}]}
TOKENIZER = {
    "version": "1.0", "added_tokens": [{"id": 0, "content": "a"}], "normalizer": {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"},
    "model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a a"]},
}  # fmt: skip
BERT = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "auto_map": {},
    "quantization_config": {"quant_method": "awq"},
    "weight_map": {"a": "b"},
}
TREES = {"version": [2, 0, 0], "learner": {"attributes": {}, "objective": {"name": "reg:squarederror"}, "learner_model_param": {"num_feature": "1"}, "gradient_booster": {"name": "gblinear", "model": {"weights": [0.5, 1]}}}}  # fmt: skip
DOCUMENTS: dict[str, Any] = {
    "keras": MODEL,
    "notebook": NOTEBOOK,
    "old": OLD_NOTEBOOK,
    "tokenizer": TOKENIZER,
    "bert": BERT,
    "trees": TREES,
}
ODD: tuple[Any, ...] = (None, [], {}, 1, 1.5, "", True, [[]], {"a": {}}, [None], {"type": {}}, {"a": []}, 10**400)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(item, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], item: Any) -> Any:
    if not path:
        return item
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], item)
    return copy


def zipped(config: Any) -> bytes:
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.0.0", "date_saved": "x"}))
    return body.getvalue()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_value_of_an_unexpected_kind_is_no_fault_of_the_scanner(name: str) -> None:
    chance, document = random.Random(name), DOCUMENTS[name]
    everywhere = list(places(document))
    for path in everywhere:
        for item in chance.sample(ODD, 5):
            odd = replaced(document, path, item)
            for content in (json.dumps(odd).encode(), zipped(odd)) if name == "keras" else (json.dumps(odd).encode(),):
                rules = [reason.rule for reason in scan(content).reasons]
                assert "scan:fault" not in rules, (path, item)
