"""What a Hugging Face configuration makes its libraries import, download or render: keys by which a file of data becomes code.

Rules (transformers `dynamic_module_utils`, diffusers `pipeline_loading_utils`, sentence-transformers `modules.json`, peft `auto_mapping`)
1. `auto_map`, `custom_pipelines` and their kin name Python files, of this repository or (`other/repo--file.Class`) of another one: refused.
2. Switches that the caller alone may set (`trust_remote_code`) have no place in the artifact.
3. Names that are looked up in a library (architectures, classes, dtypes, activations) are plain names, or dotted ones of the listed modules.
4. Implementations fetched from the hub (`attn_implementation: owner/kernel`) are code of another repository.
5. Every chat template, in whichever key or form, passes jinja.py.
6. Files named in it are plain relative paths.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from vouchgate.scanning import jinja
from vouchgate.scanning.scope import shown
from vouchgate.scanning.strict_json import acting, every
from vouchgate.scanning.verdict import Reason

REMEDY = "use a revision of the model whose architecture is part of its library, without code of its own"
MAX_TEMPLATES = 64
"""Templates in one file; models have up to five."""
MARKS = frozenset((
    "architectures", "model_type", "transformers_version", "auto_map", "chat_template", "tokenizer_class", "_class_name", "_diffusers_version",
    "processor_class", "feature_extractor_type", "image_processor_type", "video_processor_type", "weight_map", "peft_type",
    "_from_model_config", "sentence_transformers_version", "__version__", "do_sample", "eos_token_id", "custom_pipelines",
    "trust_remote_code", "added_tokens_decoder", "model_max_length", "eos_token", "custom_generate", "quant_method",
))  # fmt: skip
"""Keys of which at least one stands at the top of every configuration that these libraries write."""
_SHAPES: dict[str, tuple[type, ...]] = {
    "architectures": (list, type(None)), "model_type": (str,), "__version__": (dict,), "weight_map": (dict,), "eos_token": (str, dict),
    "do_sample": (bool,), "eos_token_id": (int, list), "model_max_length": (int, float), "quant_method": (str,), "processor_class": (str,),
}  # fmt: skip
"""What stands behind those marks that other programs' JSON has too; with anything else they are no mark."""
_CODE_KEYS = frozenset(
    ("auto_map", "custom_pipelines", "custom_pipeline", "custom_generate", "custom_code", "code_revision", "remote_code")
)
_CALLERS_KEYS = frozenset(("trust_remote_code", "allow_pickle", "allow_remote_code", "enable_remote_code"))
_HUB_KEYS = ("attn_implementation", "experts_implementation", "kernel_mapping", "hub_kernels", "layer_mapping")
_CLASS_KEYS = frozenset((
    "architectures", "model_type", "tokenizer_class", "processor_class", "feature_extractor_type", "image_processor_type", "dtype",
    "video_processor_type", "torch_dtype", "peft_type", "task_type", "quant_method", "feature_extractor_class", "image_processor_class",
    "decoder_tokenizer_class", "slow_tokenizer_class", "fast_tokenizer_class", "audio_processor_type",
))  # fmt: skip
_CALLABLE_KEYS = ("activation_fn", "activation_function", "activation", "hidden_act", "act_fn", "loss_fn", "loss_function")
_CALLABLES = ("torch.nn.modules.activation.", "torch.nn.modules.linear.Identity")
_SENTENCE_MODULES = (
    "sentence_transformers.models.", "sentence_transformers.sparse_encoder.models.", "sentence_transformers.base.models.",
    "sentence_transformers.sentence_transformer.models.", "sentence_transformers.cross_encoder.models.",
    "sentence_transformers.base.modules.", "sentence_transformers.sentence_transformer.modules.", "sentence_transformers.sparse_encoder.modules.",
    "sentence_transformers.cross_encoder.modules.", "pylate.models.",
)  # fmt: skip
_PIPELINE_LIBRARIES = frozenset((
    "diffusers", "transformers", "stable_diffusion", "stable_diffusion_safe", "paint_by_example", "latent_diffusion", "unclip", "shap_e",
    "deepfloyd_if", "audioldm", "audioldm2", "wuerstchen", "stable_cascade", "kandinsky", "deprecated", "ledits_pp", "musicldm",
    "spectrogram_diffusion", "unidiffuser", "blip_diffusion", "onnxruntime", "optimum.onnxruntime",
))  # fmt: skip
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./ ")

Fault = tuple[str, str, str]
"""Rule, key, why."""


def check(value: Any, rule: str) -> tuple[Reason, ...]:
    """What speaks against a configuration; `rule` is the format's name."""
    reasons = [Reason(rule=f"{rule}:{name}", where=f"key `{shown(key)}`", why=why, remedy=REMEDY) for name, key, why in _faults(value)]
    templates = list(_templates(value))
    for key, text in templates[:MAX_TEMPLATES]:
        reasons += jinja.check(text, rule, f"key `{shown(key)}`")
    if len(templates) > MAX_TEMPLATES:
        why = f"it holds {len(templates)} templates, the bound is {MAX_TEMPLATES}"
        reasons.append(Reason(rule=f"{rule}:too-many-templates", where="whole file", why=why, remedy=REMEDY))
    return tuple(reasons)


def marked(value: dict[str, Any]) -> bool:
    """Whether these libraries wrote an object: it has a mark, and what stands behind it is what they write there."""
    return any(isinstance(value[key], _SHAPES.get(key, object)) for key in MARKS & value.keys())


def is_plain_path(name: Any) -> bool:
    """A relative path with `/` that stays where it is."""
    if not isinstance(name, str) or not name or "\\" in name or ":" in name or not name.isprintable():
        return False
    parts = name.split("/")
    return not name.startswith("/") and all(part not in {"", ".", ".."} for part in parts) and posixpath.normpath(name) == name


def shards(value: Any) -> frozenset[str]:
    """Files that an index of shards names."""
    found = value.get("weight_map") if isinstance(value, dict) else None
    return frozenset(one for one in found.values() if isinstance(one, str)) if isinstance(found, dict) else frozenset()


def _faults(value: Any) -> Iterator[Fault]:
    found = acting(value)
    if found:
        yield "acting-key", found[0], f"{found[1]}, and the file chooses the name"
    for path, here in every(value):
        if isinstance(here, dict):
            for key, inner in here.items():
                yield from _key(f"{path}.{key}", key, inner)
    if isinstance(value, list):
        yield from _modules(value)
    elif isinstance(value, dict):
        yield from _pipeline(value)
        yield from _adapter(value)
        yield from _index(value)


def _key(path: str, key: str, value: Any) -> Iterator[Fault]:
    if key in _CODE_KEYS and value not in (None, {}, [], ""):
        where = " of another repository" if any("--" in one for one in _texts(value)) else ""
        yield "remote-code", path, f"it names Python code{where} that is run when the model is loaded with `trust_remote_code`"
    elif key in _CALLERS_KEYS and value not in (None, False):
        yield "callers-switch", path, "it sets a switch that lets code in, which only the one who loads may set"
    elif key.lstrip("_").startswith(_HUB_KEYS) or key.lstrip("_") in _HUB_KEYS:
        if any("/" in one or ":" in one for one in _texts(value)):
            yield "hub-kernel", path, "it names an implementation that is fetched from the hub and run"
    elif key in _CLASS_KEYS:
        if not all(_plain(one.replace(".", "") if key == "model_type" else one) for one in _texts(value)):
            yield "class-name", path, "it is looked up as a name in a library, but is no plain name"
    elif key.endswith(_CALLABLE_KEYS) and any("." in one and not one.startswith(_CALLABLES) for one in _texts(value)):
        yield "callable", path, "it names something to import and call that is no activation of torch"


def _plain(name: str) -> bool:
    """A word that `getattr` or a table may be asked for: no private part; dots only behind `torch`."""
    if not set(name) <= _WORD or name.startswith("_") or "__" in name:
        return False
    return "." not in name or name.startswith("torch.")


def _modules(value: list[Any]) -> Iterator[Fault]:
    """sentence-transformers: a list of {idx, name, path, type}; `type` is imported."""
    for one in value:
        if not isinstance(one, dict) or "type" not in one:
            continue
        name = one["type"]
        if "path" in one and not (
            isinstance(name, str) and name.startswith(_SENTENCE_MODULES) and all(map(str.isidentifier, name.split(".")))
        ):
            yield "module-type", "type", f"`{shown(str(name))}` would be imported and called, and is no module of sentence-transformers"
        if one.get("path") and not is_plain_path(one["path"]):
            yield "path", "path", "it leads out of the folder"


def _pipeline(value: dict[str, Any]) -> Iterator[Fault]:
    """diffusers: `_class_name` is a class of the library; components are [library, class]."""
    name = value.get("_class_name")
    if "_class_name" in value and not (isinstance(name, str) and name.isidentifier() and not name.startswith("_")):
        yield "remote-code", "_class_name", "it names a pipeline by a file of the repository, which is run when the model is loaded"
    if "_class_name" not in value:
        return
    for key, one in value.items():
        if not (isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)) or key.startswith("_"):
            continue
        library, part = one
        listed = library in _PIPELINE_LIBRARIES and part.isidentifier() and not part.startswith("_")
        if not listed and not (
            _is_numbers(one) or key in {"block_out_channels", "down_block_types", "up_block_types"} or key.endswith("_types")
        ):
            yield "component", key, f"`{shown(library)}.{shown(part)}` would be imported, and is no part of diffusers or transformers"


def _is_numbers(value: list[Any]) -> bool:
    return all(isinstance(one, str) and one.replace(".", "", 1).isdigit() for one in value)


def _adapter(value: dict[str, Any]) -> Iterator[Fault]:
    """peft: `auto_mapping.parent_library` and `megatron_core` are imported."""
    mapping = value.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, dict) else None
    if library is not None and not (
        isinstance(library, str) and library.startswith(("transformers.models.", "diffusers.models.", "torch.nn."))
    ):
        yield "parent-library", "auto_mapping.parent_library", "it would be imported, and is no module of transformers or diffusers"
    if "peft_type" in value and value.get("megatron_core") not in (None, "megatron.core"):
        yield "parent-library", "megatron_core", "it would be imported, and is not megatron's own module"


def _index(value: dict[str, Any]) -> Iterator[Fault]:
    if "weight_map" not in value:
        return
    places = value["weight_map"]
    if not isinstance(places, dict) or not all(is_plain_path(one) for one in places.values()):
        yield "shard-path", "weight_map", "it names a shard outside the folder, or is no map of tensors to files"


def _templates(value: Any) -> Iterator[tuple[str, str]]:
    for path, here in every(value):
        if isinstance(here, dict):
            for key, inner in here.items():
                if "template" in key.lower():
                    yield from ((f"{path}.{key}", text) for text in _texts(inner) if "{" in text)


def _texts(value: Any) -> list[str]:
    """Every text in a value, at any depth."""
    if isinstance(value, str):
        return [value]
    found = []
    for _, here in every(value):
        items = here.values() if isinstance(here, dict) else here if isinstance(here, list) else ()
        found += [one for one in items if isinstance(one, str)]
    return found
