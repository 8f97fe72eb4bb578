"""Writes `src/vouchgate/scanning/torchscript_operators.py` from torch's own list of operators: run where torch (and nothing of vouchgate) is installed.

    python knowledge/survey/torchscript_operators.py > src/vouchgate/scanning/torchscript_operators.py

Rules
1. Every operator that torch registers is listed, so that none can pass for a model's own method.
2. It computes if it is public (no leading underscore) or named in `PRIVATE`, takes no storage, stream or remote reference, and no pattern of
   `LEFT_OUT` matches it: those check less than they are given, or act on devices and other processes.
3. Text among its arguments was looked at by eye: of the public ones, only `from_file` and `save` take a file's name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from fnmatch import fnmatchcase

LEFT_OUT = (
    "*backward*", "miopen_*", "cudnn_*", "mkldnn_*", "fbgemm_*", "mps_*", "*_mps", "set", "set_", "set_data", "from_file", "save", "owner", "owner_name",
    "is_owner", "to_here", "local_value", "confirmed_by_owner", "record_stream", "get_gradients", "resize_as_sparse*", "*sparse_resize*",
    "copy_sparse_to_sparse*", "slice_inverse", "linalg__powsum", "hash_tensor", "*overrideable", "sparse_compressed_tensor", "sparse_csr_tensor",
    "sparse_csc_tensor", "sparse_bsr_tensor", "sparse_bsc_tensor", "segment_reduce", "slow_conv*", "thnn_*", "batch_norm_*", "quantized_*",
    "nested_to_padded_tensor", "has_torch_function", "choose_qparams_optimized", "unsafe_*_unchecked", "output_nr",
)  # fmt: skip
PRIVATE = (
    "__and__", "__contains__", "__derive_index", "__getitem__", "__iand__", "__ilshift__", "__ior__", "__irshift__", "__is__", "__isnot__", "__ixor__",
    "__lshift__", "__not__", "__or__", "__range_length", "__round_to_zero_floordiv", "__rshift__", "__xor__", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "_batch_norm_impl_index", "_cast_Byte", "_cast_Char", "_cast_Double", "_cast_Float", "_cast_Half", "_cast_Int", "_cast_Long", "_cast_Short", "_conj",
    "_convolution", "_convolution_mode", "_dim_arange", "_embedding_bag", "_grad_sum_to_size", "_infer_size", "_is_zerotensor", "_list_to_tensor",
    "_log_softmax", "_native_multi_head_attention", "_neg_view", "_nested_tensor_from_mask", "_nested_tensor_from_mask_left_aligned",
    "_no_grad_fill_", "_no_grad_normal_", "_no_grad_uniform_", "_no_grad_zero_", "_pack_padded_sequence", "_pad_packed_sequence", "_prelu_kernel",
    "_scaled_dot_product_attention_math", "_set_item", "_shape_as_tensor", "_size_if_not_equal", "_softmax", "_tensor_to_list", "_to_copy",
    "_transform_bias_rescale_qkv", "_transformer_encoder_layer_fwd", "_trilinear", "_unique", "_unique2", "_unwrap_optional", "_upsample_bicubic2d_aa",
    "_upsample_bilinear2d_aa", "_upsample_lanczos2d_aa", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "_weight_norm",
    "_weight_norm_interface", "_fake_quantize_learnable_per_tensor_affine", "_fake_quantize_learnable_per_channel_affine",
)  # fmt: skip
PRIM = (
    "EnumName", "EnumValue", "IfThenElse", "NumToTensor", "Print", "RaiseException", "StringIndex", "TupleIndex", "TupleUnpack", "Uninitialized", "abs",
    "awaitable_nowait", "awaitable_wait", "data", "device", "dtype", "grad", "index", "is_cpu", "is_cuda", "is_ipu", "is_maia", "is_meta", "is_mkldnn",
    "is_mps", "is_mtia", "is_nested", "is_quantized", "is_sparse", "is_sparse_csr", "is_vulkan", "is_xla", "is_xpu", "itemsize", "layout", "max", "min",
    "name", "nbytes", "rangelist", "requires_grad", "shape", "tolist", "type", "unchecked_cast", "unchecked_unwrap_optional",
)  # fmt: skip
TORCHVISION = ("deform_conv2d", "nms", "ps_roi_align", "ps_roi_pool", "roi_align", "roi_pool")
"""Not torch's own, and no file's: what detection models are made of."""
CLOSED = ("Storage", "Stream", "AnyClass", "RRef")
WIDTH = 138


def main() -> None:
    """To standard output."""
    import torch

    schemas = [(*schema.name.split("::"), schema) for schema in torch._C._jit_get_all_schemas()]
    registered = {(space, name) for space, name, _ in schemas}
    closed = {(space, name) for space, name, schema in schemas if _is_closed(schema)}
    aten = {name for space, name in registered if space == "aten"}
    computing = {name for name in aten if _computes(name) and ("aten", name) not in closed}
    quantized = {name for space, name in registered if space == "quantized" and not name.startswith("_") and not name.startswith("make_")}
    print(f'"""TorchScript\'s operators, as torch {torch.__version__.partition("+")[0]} registers them.')
    print('\nWritten by knowledge/survey/torchscript_operators.py, which says how they were chosen: change that, and run it again.\n"""\n')
    print("from __future__ import annotations\n")
    _print("ATEN", computing, "Compute on what they are given: called as `torch.<name>`.")
    _print("CLOSED", aten - computing, "Every other one of that library.")
    _print("PRIM", PRIM, "`ops.prim.<name>`.")
    _print("QUANTIZED", quantized, "`ops.quantized.<name>`.")
    _print("TORCHVISION", TORCHVISION, "`ops.torchvision.<name>`.")


def _is_closed(schema: object) -> bool:
    return any(word in str(argument.type) for argument in schema.arguments for word in CLOSED)  # type: ignore[attr-defined]


def _computes(name: str) -> bool:
    return name in PRIVATE or not (name.startswith("_") or any(fnmatchcase(name, pattern) for pattern in LEFT_OUT))


def _print(title: str, names: Iterable[str], what: str) -> None:
    text = "\n".join(textwrap.wrap(" ".join(sorted(set(names))), WIDTH, break_on_hyphens=False, break_long_words=False))
    print(f'_{title} = """\n{text}\n"""\n{title} = frozenset(_{title}.split())\n"""{what}"""')


if __name__ == "__main__":
    main()
