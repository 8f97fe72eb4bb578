"""transformers: `from_pretrained` of models, tokenizers, configurations, processors and the Auto classes. The folder is one artifact.

A name of the hub stands for the snapshot that lies on this machine already; nothing is fetched under the guard. Inside one `from_pretrained` others
are called with the view's folder: they pass, and what they open with safetensors or torch is known by its bytes.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

from vouchgate.vocabulary.errors import InvalidInput, Unsupported

_CLASSES = {
    "transformers.modeling_utils": ("PreTrainedModel",),
    "transformers.tokenization_utils_base": ("PreTrainedTokenizerBase",),
    "transformers.configuration_utils": ("PreTrainedConfig", "PretrainedConfig"),
    "transformers.generation.configuration_utils": ("GenerationConfig",),
    "transformers.processing_utils": ("ProcessorMixin",),
    "transformers.feature_extraction_utils": ("FeatureExtractionMixin",),
    "transformers.image_processing_base": ("ImageProcessingMixin",),
    "transformers.models.auto.auto_factory": ("_BaseAutoModelClass",),
    "transformers.models.auto.configuration_auto": ("AutoConfig",),
    "transformers.models.auto.tokenization_auto": ("AutoTokenizer",),
    "transformers.models.auto.processing_auto": ("AutoProcessor",),
    "transformers.models.auto.feature_extraction_auto": ("AutoFeatureExtractor",),
    "transformers.models.auto.image_processing_auto": ("AutoImageProcessor",),
}
"""Module -> classes with a `from_pretrained` of their own; one of the names is enough, they are names of the same class in several versions."""


def wrap(module: Any, guard: Any) -> None:
    """Every class of `_CLASSES` that the module has."""
    found = {id(one): one for one in (getattr(module, name, None) for name in _CLASSES[module.__name__]) if one is not None}
    if not found:
        what = f"`{module.__name__}` has none of {', '.join(_CLASSES[module.__name__])}"
        raise Unsupported(f"{what}: this version is not known to the load guard", remedy="install another version of it")
    for one in found.values():
        _wrap_class(one, guard)


def _wrap_class(holder: Any, guard: Any) -> None:
    own = holder.__dict__.get("from_pretrained")
    if not isinstance(own, classmethod):
        raise Unsupported(f"`{holder.__name__}` has no `from_pretrained` of its own", remedy="install another version of transformers")
    original: Any = own.__func__

    @functools.wraps(original)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        if pretrained_model_name_or_path is None or guard.inside(pretrained_model_name_or_path):
            return original(cls, pretrained_model_name_or_path, *args, **kwargs)
        with guard.folder(_folder(pretrained_model_name_or_path, kwargs), "transformers") as view:
            made = original(cls, str(view.folder), *args, **kwargs)
            view.check()
            return made

    holder.from_pretrained = classmethod(from_pretrained)


def _folder(name: Any, options: dict[str, Any]) -> Path:
    """Where it lies on this machine. Raises `InvalidInput`."""
    path = Path(name)
    if path.is_dir():
        return path
    try:
        hub = importlib.import_module("huggingface_hub")
        told = {key: options[key] for key in ("revision", "cache_dir") if options.get(key) is not None}
        return Path(hub.snapshot_download(str(name), local_files_only=True, **told))
    except Exception as error:
        raise InvalidInput(
            f"`{str(name)[:200]}` is neither a folder nor a snapshot on this machine ({type(error).__name__})",
            remedy="fetch it without the guard, `vouchgate import` the folder, and load that",
        ) from None


MODULES = dict.fromkeys(_CLASSES, wrap)
