"""The opcodes, one function each, in a table by code."""

from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable

from vouchgate.scanning.pickles.batches import pass_over
from vouchgate.scanning.pickles.state import Broken, State
from vouchgate.scanning.pickles.values import SHORT, Dict, FrozenSet, List, Made, Set, Span, Tuple, Value

MAX_DIGITS = 4_300
"""Digits of a decimal integer: the interpreter's own bound (`sys.int_info.default_max_str_digits`)."""
MAX_NAME_LINE = 1_024
"""Bytes of one line of a GLOBAL or INST."""
_NEWLINE = re.compile(rb"\n")
_F64 = struct.Struct(">d").unpack_from
_I32 = struct.Struct("<i").unpack_from
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_U16 = struct.Struct("<H").unpack_from
HIGHEST_PROTOCOL = 5


def _line(state: State, most: int = -1) -> tuple[int, int]:
    """Begin and end of the text up to the next newline, within the frame."""
    begin = state.here
    found = _NEWLINE.search(state.view, begin, state.limit if most < 0 else min(state.limit, begin + most + 1))
    if found is None:
        raise Broken("truncated" if most < 0 else "odd-name", state.begin, "a line of text does not end")
    state.here = found.end()
    return begin, found.start()


# Numbers and constants


def _int(state: State) -> None:
    begin, end = _line(state)
    text = bytes(state.view[begin : min(end, begin + MAX_DIGITS + 1)])
    if text in (b"00", b"01"):
        state.stack.append(text == b"01")
    else:
        state.stack.append(_decimal(state, text))


def _long(state: State) -> None:
    begin, end = _line(state)
    text = bytes(state.view[begin : min(end, begin + MAX_DIGITS + 2)])
    state.stack.append(_decimal(state, text.removesuffix(b"L")))


def _decimal(state: State, text: bytes) -> int:
    digits = text.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > MAX_DIGITS:
        raise Broken("number", state.begin, "a number is no plain decimal, where readers differ")
    return int(text)


def _float(state: State) -> None:
    begin, end = _line(state)
    try:
        state.stack.append(float(bytes(state.view[begin : min(end, begin + 64)])))
    except ValueError:
        raise Broken("number", state.begin, "a number is no plain decimal, where readers differ") from None


def _binint(state: State) -> None:
    state.stack.append(_I32(state.view, state.take(4))[0])


def _binint1(state: State) -> None:
    state.stack.append(state.view[state.here])
    state.here += 1


def _binint2(state: State) -> None:
    state.stack.append(_U16(state.view, state.take(2))[0])


def _binfloat(state: State) -> None:
    state.stack.append(_F64(state.view, state.take(8))[0])


def _integer(state: State, length: int) -> None:
    if length < 0:
        raise Broken("length", state.begin, "a length is negative")
    begin = state.take(length)
    short = length <= SHORT
    state.stack.append(int.from_bytes(state.view[begin : begin + length], "little", signed=True) if short else Span(begin, length, "int"))


def _long1(state: State) -> None:
    _integer(state, state.view[state.take(1)])


def _long4(state: State) -> None:
    _integer(state, _I32(state.view, state.take(4))[0])


def _constant(value: Value) -> Callable[[State], None]:
    return lambda state: state.stack.append(value)


# Text and bytes


def _string(state: State) -> None:
    """A quoted string of Python 2 (`S`)."""
    begin, end = _line(state)
    if end - begin < 2 or state.view[begin] != state.view[end - 1] or state.view[begin] not in b"'\"":
        raise Broken("string", state.begin, "a quoted string has no quotes")
    if end - begin > SHORT:
        state.stack.append(Span(begin + 1, end - begin - 2, "escaped"))
        return
    try:
        raw = codecs.escape_decode(bytes(state.view[begin + 1 : end - 1]))[0]
    except ValueError:
        raise Broken("string", state.begin, "a quoted string has a broken escape") from None
    state.stack.append(_text_if_ascii(raw))


def _text_if_ascii(raw: bytes) -> Value:
    return raw.decode("ascii") if raw.isascii() else raw


def _string_of(state: State, length: int) -> None:
    """A counted string of Python 2 (`T`, `U`): text where it is ASCII."""
    if length < 0:
        raise Broken("length", state.begin, "a length is negative")
    begin = state.take(length)
    state.stack.append(_text_if_ascii(bytes(state.view[begin : begin + length])) if length <= SHORT else Span(begin, length))


def _binstring(state: State) -> None:
    _string_of(state, _I32(state.view, state.take(4))[0])


def _short_binstring(state: State) -> None:
    _string_of(state, state.view[state.take(1)])


def _unicode(state: State) -> None:
    begin, end = _line(state)
    if end - begin > SHORT:
        state.stack.append(Span(begin, end - begin, "raw-text"))
        return
    try:
        state.stack.append(codecs.decode(bytes(state.view[begin:end]), "raw-unicode-escape"))
    except ValueError:
        raise Broken("string", state.begin, "text has a broken escape") from None


def _text_of(state: State, length: int) -> None:
    begin = state.take(length)
    if length > SHORT:
        state.stack.append(Span(begin, length, "text"))
        return
    try:
        state.stack.append(str(state.view[begin : begin + length], "utf-8", "surrogatepass"))
    except ValueError:
        raise Broken("string", state.begin, "text is not UTF-8") from None


def _short_binunicode(state: State) -> None:
    _text_of(state, state.view[state.take(1)])


def _binunicode(state: State) -> None:
    _text_of(state, _U32(state.view, state.take(4))[0])


def _binunicode8(state: State) -> None:
    _text_of(state, _U64(state.view, state.take(8))[0])


def _bytes_of(state: State, length: int) -> None:
    begin = state.take(length)
    state.stack.append(bytes(state.view[begin : begin + length]) if length <= SHORT else Span(begin, length))


def _short_binbytes(state: State) -> None:
    _bytes_of(state, state.view[state.take(1)])


def _binbytes(state: State) -> None:
    _bytes_of(state, _U32(state.view, state.take(4))[0])


def _binbytes8(state: State) -> None:
    _bytes_of(state, _U64(state.view, state.take(8))[0])


def _bytearray8(state: State) -> None:
    length = _U64(state.view, state.take(8))[0]
    state.stack.append(Span(state.take(length), length, "bytearray"))


# Containers


def _mark(state: State) -> None:
    state.marks.append(state.stack)
    state.stack = []
    if not state.keep:
        pass_over(state)


def _tuple(state: State) -> None:
    items = state.since_mark()
    state.stack.append(Tuple(tuple(items)))


def _tuple_of(count: int) -> Callable[[State], None]:
    def make(state: State) -> None:
        items = tuple(state.stack[-count:])
        if len(items) < count:
            raise Broken("stack", state.begin, "an opcode needs more than the stack holds")
        state.stack[-count:] = [Tuple(items)]

    return make


def _new_tuple(state: State) -> None:
    state.stack.append(Tuple(()))


def _list(state: State) -> None:
    items = state.since_mark()
    state.stack.append(List(items))


def _append(state: State) -> None:
    value = state.stack.pop()
    _extend(state, [value])


def _appends(state: State) -> None:
    _extend(state, state.since_mark())


def _extend(state: State, items: list[Value]) -> None:
    target = state.stack[-1]
    if type(target) is List:
        if target.closed:
            state.judge.refuse("late-items", state.begin, "it puts something into a list after something was made that rests on it")
        target.items += items
    else:
        state.judge.grows(target, "items", state.begin).extend(items)


def _dict(state: State) -> None:
    made = Dict()
    _fill(state, made, state.since_mark())
    state.stack.append(made)


def _setitem(state: State) -> None:
    value, key = state.stack.pop(), state.stack.pop()
    _fill(state, state.stack[-1], [key, value])


def _setitems(state: State) -> None:
    items = state.since_mark()
    _fill(state, state.stack[-1], items)


def _fill(state: State, target: Value, items: list[Value]) -> None:
    if len(items) % 2:
        raise Broken("stack", state.begin, "a key has no value")
    keys = items[::2]
    for key in keys:
        if type(key) is not str:
            state.judge.hashes(key, state.begin)
        if type(key) is Made or (type(key) is str and key.startswith("__")):
            state.judge.protocol(key, state.begin)
    if type(target) is Dict:
        if target.closed:
            state.judge.refuse("late-items", state.begin, "it puts something into a dict after something was made that rests on it")
        pairs = target.pairs
    else:
        pairs = state.judge.grows(target, "pairs", state.begin)
    pairs.extend(zip(keys, items[1::2], strict=True))


def _additems(state: State) -> None:
    items = state.since_mark()
    _hash_all(state, items)
    target = state.stack[-1]
    (target.items if type(target) is Set else state.judge.grows(target, "items", state.begin)).extend(items)


def _frozenset(state: State) -> None:
    items = state.since_mark()
    _hash_all(state, items)
    state.stack.append(FrozenSet(tuple(items)))


def _hash_all(state: State, items: list[Value]) -> None:
    for item in items:
        if type(item) is not str:
            state.judge.hashes(item, state.begin)


def _new(kind: type) -> Callable[[State], None]:
    return lambda state: state.stack.append(kind())


# Stack and memo


def _pop(state: State) -> None:
    if state.stack:
        state.stack.pop()
    else:
        state.since_mark()


def _pop_mark(state: State) -> None:
    state.since_mark()


def _dup(state: State) -> None:
    state.again(state.stack[-1])


def _get(state: State) -> None:
    begin, end = _line(state)
    state.recall(_decimal(state, bytes(state.view[begin : min(end, begin + 20)])))


def _binget(state: State) -> None:
    index = state.view[state.here]
    state.here += 1
    state.recall(index)


def _long_binget(state: State) -> None:
    state.recall(_U32(state.view, state.take(4))[0])


def _put(state: State) -> None:
    begin, end = _line(state)
    index = _decimal(state, bytes(state.view[begin : min(end, begin + 20)]))
    if index < 0:
        raise Broken("memo-index", state.begin, "a memo index is negative")
    state.remember(index)


def _binput(state: State) -> None:
    index = state.view[state.here]
    state.here += 1
    state.remember(index)


def _long_binput(state: State) -> None:
    state.remember(_U32(state.view, state.take(4))[0])


def _memoize(state: State) -> None:
    state.memo[len(state.memo)] = state.stack[-1]


# Names, calls, state


def _global(state: State) -> None:
    module, name = _name_lines(state)
    state.stack.append(state.judge.name(module, name, state.begin, state.protocol))


def _name_lines(state: State) -> tuple[str, str]:
    lines = [_line(state, MAX_NAME_LINE) for _ in range(2)]
    module, name = (bytes(state.view[begin:end]).decode("utf-8", "backslashreplace") for begin, end in lines)
    return module, name


def _stack_global(state: State) -> None:
    name, module = state.stack.pop(), state.stack.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Broken("computed-name", state.begin, "a name to import is not plain text")
    state.stack.append(state.judge.name(module, name, state.begin, state.protocol))


def _reduce(state: State) -> None:
    args, callee = state.stack.pop(), state.stack.pop()
    state.stack.append(state.judge.call("reduce", callee, args, state.begin))


def _newobj(state: State) -> None:
    args, kind = state.stack.pop(), state.stack.pop()
    state.stack.append(state.judge.construct("newobj", kind, args, None, state.begin))


def _newobj_ex(state: State) -> None:
    kwargs, args, kind = state.stack.pop(), state.stack.pop(), state.stack.pop()
    if not isinstance(kwargs, Dict):
        raise Broken("arguments", state.begin, "keyword arguments are no dict")
    state.stack.append(state.judge.construct("newobj", kind, args, kwargs, state.begin))


def _inst(state: State) -> None:
    module, name = _name_lines(state)
    args = state.since_mark()
    kind = state.judge.name(module, name, state.begin, state.protocol)
    state.stack.append(state.judge.instantiate("inst", kind, args, state.begin))


def _obj(state: State) -> None:
    items = state.since_mark()
    if not items:
        raise Broken("stack", state.begin, "an object has no class")
    state.stack.append(state.judge.instantiate("obj", items[0], items[1:], state.begin))


def _build(state: State) -> None:
    value = state.stack.pop()
    made = state.stack[-1]
    state.judge.build(made, value, state.begin)
    if state.dialect.arrays:
        state.stack[-1] = state.judge.inline(state, made)


def _persid(state: State) -> None:
    begin, end = _line(state, MAX_NAME_LINE)
    state.stack.append(state.judge.persistent(state, bytes(state.view[begin:end]).decode("ascii", "backslashreplace")))


def _binpersid(state: State) -> None:
    state.stack.append(state.judge.persistent(state, state.stack.pop()))


# Control


def _proto(state: State) -> None:
    protocol = state.view[state.here]
    state.here += 1
    if protocol > HIGHEST_PROTOCOL:
        raise Broken("protocol", state.begin, f"protocol {protocol} is none that exists")
    if state.begin != state.start:
        raise Broken("protocol", state.begin, "the protocol is said again inside the pickle, where names begin to mean something else")
    state.protocol = protocol


def _frame(state: State) -> None:
    state.enter(_U64(state.view, state.take(8))[0])


def _stop(state: State) -> None:
    if len(state.stack) != 1 or state.marks:
        state.judge.refuse("leftover", state.begin, "the stack holds more than the result when it stops: what is left was built unseen")
    if not state.stack:
        raise Broken("stack", state.begin, "it stops without a result")
    if state.frame and state.here != state.limit:
        raise Broken("frame", state.begin, "it stops inside a frame")
    state.end = state.here


def _extension(state: State) -> None:
    raise Broken("extension", state.begin, "it uses the extension registry, whose names another program sets")


def _buffer(state: State) -> None:
    raise Broken("out-of-band", state.begin, "part of it lies in buffers outside of the file")


def _unknown(state: State) -> None:
    raise Broken("opcode", state.begin, f"byte {state.view[state.begin]:#04x} is no opcode")


_CODES: dict[int, Callable[[State], None]] = {
    ord("I"): _int, ord("L"): _long, ord("F"): _float, ord("J"): _binint, ord("K"): _binint1, ord("M"): _binint2, ord("G"): _binfloat,
    0x8A: _long1, 0x8B: _long4, ord("N"): _constant(None), 0x88: _constant(True), 0x89: _constant(False),
    ord("S"): _string, ord("T"): _binstring, ord("U"): _short_binstring, ord("V"): _unicode, ord("X"): _binunicode,
    0x8C: _short_binunicode, 0x8D: _binunicode8, ord("C"): _short_binbytes, ord("B"): _binbytes, 0x8E: _binbytes8, 0x96: _bytearray8,
    ord("("): _mark, ord("t"): _tuple, ord(")"): _new_tuple, 0x85: _tuple_of(1), 0x86: _tuple_of(2), 0x87: _tuple_of(3),
    ord("l"): _list, ord("]"): _new(List), ord("a"): _append, ord("e"): _appends,
    ord("d"): _dict, ord("}"): _new(Dict), ord("s"): _setitem, ord("u"): _setitems, 0x8F: _new(Set), 0x90: _additems, 0x91: _frozenset,
    ord("0"): _pop, ord("1"): _pop_mark, ord("2"): _dup,
    ord("g"): _get, ord("h"): _binget, ord("j"): _long_binget, ord("p"): _put, ord("q"): _binput, ord("r"): _long_binput, 0x94: _memoize,
    ord("c"): _global, 0x93: _stack_global, ord("R"): _reduce, 0x81: _newobj, 0x92: _newobj_ex, ord("i"): _inst, ord("o"): _obj,
    ord("b"): _build, ord("P"): _persid, ord("Q"): _binpersid,
    0x80: _proto, 0x95: _frame, ord("."): _stop, 0x82: _extension, 0x83: _extension, 0x84: _extension, 0x97: _buffer, 0x98: _buffer,
}  # fmt: skip
TABLE: tuple[Callable[[State], None], ...] = tuple(_CODES.get(code, _unknown) for code in range(256))
