"""States by which an object that is known would open files, fetch code, or put a program into a notebook's page."""

from __future__ import annotations

from typing import Any

import pytest
from naming_pickles import Call, Named, New, pickled
from pickle_making import STOP, text

from vouchgate.scanning.knowledge.shipped import shipped
from vouchgate.scanning.scan import scan

LINEAR = Named("sklearn.linear_model._base", "LinearRegression")
MODEL = New(LINEAR, (), {"fit_intercept": True})
CONFIG = Named("transformers.models.qwen3.configuration_qwen3", "Qwen3Config")
CODE = {"AutoModel": "owner/name--modeling.Model"}


def rules(what: Any) -> set[str]:
    data = what if isinstance(what, bytes) else pickled(what)
    return {reason.rule for reason in scan(memoryview(data)).reasons}


def vectoriser(name: str, **state: Any) -> New:
    return New(Named("sklearn.feature_extraction.text", name), (), state)


def config(**state: Any) -> New:
    return New(CONFIG, (), {"hidden_size": 8, **state})


@pytest.mark.parametrize("name", ["CountVectorizer", "HashingVectorizer", "TfidfVectorizer"])
def test_a_vectoriser_opens_no_file_by_itself(name: str) -> None:
    assert rules(vectoriser(name, input="content", lowercase=True)) == rules(vectoriser(name, input="file")) == set()
    assert rules(vectoriser(name, input="filename")) == {"pickle:state"}
    assert rules(vectoriser(name, input=["content"])) == {"pickle:state"}


@pytest.mark.parametrize(
    ("method", "refused"), [("predict_proba", False), (["predict_proba", "predict"], False), ("tofile", True), (["predict", "save"], True)]
)
def test_a_chain_asks_its_estimators_for_what_predicts(method: Any, refused: bool) -> None:
    chain = New(Named("sklearn.multioutput", "ClassifierChain"), (), {"estimators_": [MODEL], "chain_method_": method})
    assert rules(chain) == ({"pickle:state"} if refused else set())


@pytest.mark.parametrize(
    "key",
    [
        "_repr_html_", "_repr_mimebundle_", "_repr_javascript_", "_repr_html_inner", "_ipython_display_", "_html_repr", "_sk_visual_block_",
        "_doc_link_template", "__doc_link_template", "_doc_link_url_param_generator", "_doc_link_module",
    ],
)  # fmt: skip
def test_what_a_notebook_asks_of_an_object_is_no_attribute_of_a_state(key: str) -> None:
    for value in ("<script>alert(1)</script>", Call(Named("builtins", "str"), ("x",))):
        assert rules(New(LINEAR, (), {key: value})) == {"pickle:state"}


def test_an_attribute_that_only_begins_like_one_is_plain() -> None:
    assert rules(New(LINEAR, (), {"_repr_pattern": "x", "doc_link": "y"})) == set()


def test_a_configuration_is_clean() -> None:
    whole = config(
        _attn_implementation_internal="sdpa",
        auto_map=None,
        custom_pipelines={},
        torch_dtype="float32",
        id2label={0: "a"},
        cache_implementation="static",
    )
    assert rules(whole) == set()


@pytest.mark.parametrize(
    "state",
    [
        {"auto_map": CODE},
        {"auto_map": "owner/name--modeling.Model"},
        {"custom_pipelines": {"a": {"impl": "x.Y"}}},
        {"trust_remote_code": True},
        {"_attn_implementation_internal": "owner/kernels"},
        {"_attn_implementation": {"text": "sdpa", "vision": "owner/kernels@main:f"}},
        {"_experts_implementation_internal": "owner/kernels"},
        {"text_config": {"deep": [{"auto_map": CODE}]}},
        {"attribute_map": {"auto_map": "other"}, "other": CODE},
        {"_attn_implementation_internal": Call(Named("builtins", "str"), ("x",))},
    ],
    ids=str,
)
def test_a_configuration_names_no_code(state: dict[str, Any]) -> None:
    assert "pickle:state" in rules(config(**state))


def test_a_configuration_is_not_filled_behind_the_rule() -> None:
    """The empty `auto_map` is fetched again from the memo, behind the state that holds it."""
    late: dict[str, Any] = {}
    data = pickled((config(auto_map=late), late))
    place = data.rindex(b"h")  # BINGET of the dict, then TUPLE2
    assert rules(data) == set()
    filled = data[: place + 2] + text("AutoModel") + text("owner/name--m.M") + b"s" + data[place + 2 :]
    unframed = filled[:2] + filled[11:] if filled[2] == 0x95 else filled
    assert unframed.endswith(STOP)
    assert "pickle:late-items" in rules(unframed)


def test_every_configuration_is_held_by_the_rule() -> None:
    bare = [
        entry.name
        for entry in shipped().entries()
        if entry.library == "transformers" and entry.name.endswith("Config") and ".configuration_" in entry.module
        if "constructible" in entry.uses and entry.state != "transformers-config" and entry.module.startswith("transformers.models.")
    ]
    assert set(bare) == {"MMBTConfig"}  # derives from no configuration
