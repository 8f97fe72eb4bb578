"""SentencePiece models: pieces with scores, and how texts are normalised, exactly by the protocol.

Rules (google/sentencepiece, `sentencepiece_model.proto`, `normalizer.cc`)
1. Every field is one of the protocol's, with its wire type, once. Extensions (numbers from 200) are not read by the library: refused.
2. Pieces are texts, none of them empty, no two the same; types are those of the protocol.
3. A compiled map of characters is a trie of 32-bit units and a block of zero-terminated texts: the trie's size fits, is a multiple of 1,024 bytes or
   none, and no unit leads out of it. The library walks it without looking (`Darts::DoubleArray`), so a unit that leads out is a read out of bounds.
4. Paths in the training options are what the trainer was given: nothing opens them when the model is loaded.
"""

from __future__ import annotations

import struct
from array import array
from sys import byteorder
from typing import NoReturn

from vouchgate.scanning.protobuf_rows import schema
from vouchgate.scanning.protobuf_wire import Message, Span, WireReader
from vouchgate.scanning.scope import Scope
from vouchgate.scanning.sight import Sight
from vouchgate.scanning.sniff import NOT_MINE, Claim
from vouchgate.scanning.verdict import Reading, Refuse, at

NAME = "sentencepiece"
REMEDY = "train or fetch the SentencePiece model again, or use the repository's `tokenizer.json`"
MAX_MAP = 16 * 1024**2
"""Bytes of a compiled map of characters; the library's own have about 240 kB."""
MAX_PIECE = 4_096
"""Bytes of one piece (`max_sentencepiece_length` is 16 characters by default; user-defined symbols may be longer)."""
_ROWS = """
ModelProto 1 pieces bytes*; 2 trainer_spec TrainerSpec; 3 normalizer_spec NormalizerSpec; 4 self_test_data SelfTestData;
  5 denormalizer_spec NormalizerSpec
SentencePiece 1 piece text; 2 score float; 3 type int
SelfTestData 1 samples Sample*
Sample 1 input bytes; 2 expected bytes
NormalizerSpec 1 name text; 2 precompiled_charsmap bytes; 3 add_dummy_prefix int; 4 remove_extra_whitespaces int; 5 escape_whitespaces int;
  6 normalization_rule_tsv text
TrainerSpec 1 input text*; 7 input_format text; 2 model_prefix text; 3 model_type int; 4 vocab_size int; 10 character_coverage float;
  11 input_sentence_size int; 19 shuffle_input_sentence int; 14 seed_sentencepiece_size int; 15 shrinking_factor float;
  18 max_sentence_length int; 16 num_threads int; 17 num_sub_iterations int; 20 max_sentencepiece_length int; 21 split_by_unicode_script int;
  23 split_by_number int; 22 split_by_whitespace int; 24 treat_whitespace_as_suffix int; 26 allow_whitespace_only_pieces int;
  25 split_digits int; 53 pretokenization_delimiter text; 30 control_symbols text*; 31 user_defined_symbols text*; 36 required_chars bytes;
  35 byte_fallback int; 32 vocabulary_output_piece_score int; 33 hard_vocab_limit int; 34 use_all_vocab int; 40 unk_id int; 41 bos_id int;
  42 eos_id int; 43 pad_id int; 45 unk_piece text; 46 bos_piece text; 47 eos_piece text; 48 pad_piece text; 44 unk_surface text;
  54 seed_sentencepieces_file text; 55 auto_character_coverage int; 5 accept_language text*; 6 self_test_sample_size int;
  12 mining_sentence_size int; 13 training_sentence_size int; 49 train_extremely_large_corpus int; 50 enable_differential_privacy int;
  51 differential_privacy_noise_level float; 52 differential_privacy_clipping_threshold int
"""
_SCHEMA = schema(_ROWS)
_TYPES = frozenset(range(1, 7))
"""NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE."""


def recognise(sight: Sight) -> Claim:
    """A first piece, field by field (text, then a score), and another piece or part of the model behind it."""
    head = sight.head
    if len(head) < 12 or (head[0], head[2]) != (0x0A, 0x0A):
        return NOT_MINE
    size, text = head[1], head[3]
    rest, behind = head[4 + text : 2 + size], head[2 + size : 3 + size]
    if max(size, text) >= 0x80 or not text or rest[:1] not in (b"\x15", b"\x18") or behind not in (b"\x0a", b"\x12", b"\x1a"):
        return NOT_MINE
    return Claim(strength="certain", kind=NAME, because="pieces of a SentencePiece model", above=("text", "csv", "yaml"))


def read(sight: Sight, scope: Scope) -> Reading:
    """Rules 1 to 4."""
    wire = WireReader(sight.view, _SCHEMA, scope.settings, format_name=NAME, remedy=REMEDY)
    model = wire.message("ModelProto", 0, len(sight))
    seen: set[str] = set()
    for span in model.get("pieces", ()):
        _piece(wire.message("SentencePiece", span.begin, span.end, 1), span, seen)
    for key in ("normalizer_spec", "denormalizer_spec"):
        span = model.get(key, {}).get("precompiled_charsmap")
        if span is not None and span.end > span.begin:
            _characters(sight.view[span.begin : span.end], span.begin)
    if "trainer_spec" not in model and "normalizer_spec" not in model:
        _refuse("model", 0, "it has pieces, but says neither how they were made nor how texts are normalised")
    return Reading(covered=len(sight), facts={"pieces": len(seen), "model_type": model.get("trainer_spec", {}).get("model_type", 1)})


def _piece(found: Message, span: Span, seen: set[str]) -> None:
    """Rule 2."""
    text = found.get("piece", "")
    if not text or text in seen or len(text) > MAX_PIECE:
        _refuse("piece", span.begin, "a piece is empty, too long, or there twice")
    if found.get("type", 1) not in _TYPES:
        _refuse("piece", span.begin, "a piece has a type that the library does not know")
    seen.add(text)


def _characters(view: memoryview, where: int) -> None:
    """Rule 3. A unit of the trie (darts.h): the offset to its children is bits 10 to 30, times 256 where bit 9 is
    set; bit 8 says that a value stands there; one with bit 31 is a value."""
    if len(view) < 4 or len(view) > MAX_MAP:
        _refuse("characters", where, f"a map of characters has no size, or is over {MAX_MAP} bytes")
    size = struct.unpack_from("<I", view)[0]
    texts = view[4 + size :]
    if size < 1_024 or size & 1_023 or 4 + size >= len(view):
        _refuse("characters", where, "the trie of a map of characters is not as long as it says")
    if texts[-1]:
        _refuse("characters", where, "the texts of a map of characters do not end")
    units = array("I", bytes(view[4 : 4 + size]))
    if byteorder == "big":
        units.byteswap()
    for place, unit in enumerate(units):
        if unit >> 31:
            continue
        to = place ^ ((unit >> 10) << ((unit & 512) >> 6))
        if to | 255 >= len(units):
            _refuse("characters", where, "the trie of a map of characters leads out of itself")
        if unit >> 8 & 1 and units[to] & 0x7FFFFFFF >= len(texts):
            _refuse("characters", where, "the trie of a map of characters leads to no text")


def _refuse(rule: str, offset: int, why: str) -> NoReturn:
    raise Refuse(f"{NAME}:{rule}", at(offset), why, REMEDY)
