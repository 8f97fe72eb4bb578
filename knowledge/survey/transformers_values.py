"""Configurations, encodings, arguments and tokenizers of transformers and tokenizers, without any download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself; what needs torch fails where it is missing."""
    import tokenizers
    import transformers
    from transformers import tokenization_utils_base as base

    for name in (
        "BertConfig",
        "GPT2Config",
        "LlamaConfig",
        "T5Config",
        "ViTConfig",
        "WhisperConfig",
        "RobertaConfig",
        "MistralConfig",
        "Qwen2Config",
        "DistilBertConfig",
        "CLIPConfig",
        "GenerationConfig",
    ):
        yield f"transformers-{name.lower()}", lambda name=name: getattr(transformers, name)()
    yield "transformers-batchencoding", lambda: base.BatchEncoding({"input_ids": [[1, 2]], "attention_mask": np.ones((1, 2), "i8")})
    yield "transformers-trainingarguments", lambda: transformers.TrainingArguments(output_dir="out")
    yield "transformers-seq2seq-arguments", lambda: transformers.Seq2SeqTrainingArguments(output_dir="out")
    yield "transformers-addedtoken", lambda: [transformers.AddedToken("[X]", special=True), tokenizers.AddedToken("y")]
    yield (
        "transformers-enums",
        lambda: [
            transformers.IntervalStrategy.STEPS,
            transformers.SchedulerType.LINEAR,
            base.TruncationStrategy.LONGEST_FIRST,
            transformers.utils.PaddingStrategy.LONGEST,
            transformers.TensorType.NUMPY,
        ],
    )
    yield "transformers-trainer-state", lambda: [transformers.TrainerState(), transformers.TrainerControl()]
    yield "transformers-batchfeature", lambda: transformers.BatchFeature({"pixel_values": np.zeros((1, 3))})
    yield (
        "transformers-fast-tokenizer",
        lambda: transformers.PreTrainedTokenizerFast(tokenizer_object=_tokenizer(tokenizers), unk_token="[UNK]"),
    )
    yield "tokenizers-bpe", lambda: _tokenizer(tokenizers)
    yield (
        "tokenizers-parts",
        lambda: [
            tokenizers.normalizers.NFC(),
            tokenizers.pre_tokenizers.Whitespace(),
            tokenizers.decoders.ByteLevel(),
            tokenizers.processors.BertProcessing(("a", 1), ("b", 2)),
            tokenizers.models.BPE(),
        ],
    )
    yield "tokenizers-encoding", lambda: _tokenizer(tokenizers).encode("a b")


def _tokenizer(tokenizers: Any) -> Any:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return made
