"""Rules over the arguments and states of the standard library's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vouchgate.scanning.pickles.fitting import (
    Fit,
    attributes,
    children,
    is_bytes,
    is_encoded,
    is_int,
    is_number,
    is_plain,
    is_scalar,
    is_text,
)
from vouchgate.scanning.pickles.hashing import heavy
from vouchgate.scanning.pickles.values import Dict, FrozenSet, List, Made, Name, Set, Span, Tuple, Value

MAX_TEXT_NUMBER = 4_096
"""Characters of a number written as text (Decimal, Fraction, int): parsing is quadratic in some releases."""
MAX_PATTERN = 8_192
"""Characters of a regular expression: compiling is no worse than linear, but matching is the user's risk."""
ARRAY_CODES = "bBuwhHiIlLqQfd"
CODECS = ("latin1", "latin-1", "iso-8859-1", "utf-8", "utf8", "ascii")


def _no_kwargs(fit: Fit) -> bool:
    return fit.kwargs is None or not fit.kwargs.pairs


def _container(fit: Fit) -> str:
    """`list`, `set`, `tuple` ...: nothing, or one container of what was already built."""
    if not fit.args:
        return ""
    one = len(fit.args) == 1 and isinstance(fit.args[0], Tuple | List | Set | FrozenSet | Dict)
    return "" if one and _no_kwargs(fit) else "its argument is no list, tuple, set or dict"


def _hashed(fit: Fit) -> str:
    """The same where members become keys: hashing them must be bounded work."""
    wrong = _container(fit)
    if wrong or not fit.args:
        return wrong
    return "hashing its members takes more work than any real one" if heavy(children(fit.args[0])) else ""


def _type_of_none(fit: Fit) -> str:
    return "" if fit.args == (None,) else "it takes more than None"


def _array(fit: Fit) -> str:
    """`array("d", [1.0])`."""
    match fit.args:
        case (str() as code, List() as items) if len(code) == 1 and code in ARRAY_CODES and is_plain(items):
            return ""
    return "its arguments are no code and list of numbers"


def _array_bytes(fit: Fit) -> str:
    """`_array_reconstructor(array, "d", 16, b"...")`; it refuses lengths that do not fit."""
    match fit.args:
        case (kind, str() as code, form, data) if len(code) == 1 and code in ARRAY_CODES and is_int(form, 0, 21) and is_bytes(data):
            return "" if fit.refers(kind, "array.array") else "it makes something other than an array"
    return "its arguments are no code, format and bytes"


def _zone(fit: Fit) -> str:
    """`ZoneInfo._unpickle("Europe/Vienna", True)`."""
    match fit.args:
        case (str() as key, from_cache) if key.isascii() and len(key) < 64 and type(from_cache) in (bool, int):
            parts = key.replace("+", "").replace("-", "").replace("_", "").split("/")
            return "" if all(part.isalnum() for part in parts) else "it is no name of a time zone"
    return "it is no name of a time zone"


def _bytes(fit: Fit) -> str:
    """`bytes()`, `bytearray(b"...")`, `bytearray("...", "latin-1")`, `bytes([1, 2])`."""
    match fit.args:
        case ():
            return ""
        case (value,) if is_bytes(value) or isinstance(value, List | Tuple):
            return ""
        case (value, str() as codec) if is_text(value) and codec in CODECS:
            return ""
    return "its arguments are not the bytes themselves"


def _encode(fit: Fit) -> str:
    """`_codecs.encode(text, "latin1")`: how protocols 0 to 2 write bytes."""
    match fit.args:
        case (value, str() as codec) if is_text(value) and codec in CODECS:
            return ""
        case (value,) if is_text(value):
            return ""
    return "it is not text and one of the plain encodings"


def _number(fit: Fit) -> str:
    """`int`, `float`, `complex`, `bool`: plain numbers or short text."""
    fits = len(fit.args) <= 2 and all(is_number(one) or (isinstance(one, str) and len(one) <= MAX_TEXT_NUMBER) for one in fit.args)
    return "" if fits else "its arguments are no plain numbers"


def _scalars(fit: Fit) -> str:
    """A few plain scalars, short ones."""
    fits = len(fit.args) <= 16 and all(is_scalar(one) and not isinstance(one, Span) for one in fit.args)
    return "" if fits and _no_kwargs(fit) else "its arguments are not a few plain values"


def _str(fit: Fit) -> str:
    """`str()` of one short plain value; a codec's name would be looked up."""
    return _scalars(fit) or ("" if len(fit.args) <= 1 else "it names an encoding")


def _text_number(fit: Fit) -> str:
    """`Decimal("1.5")`, `Fraction("1/2")`, `Fraction(1, 2)`."""
    fits = len(fit.args) <= 2 and all(type(one) is int or (isinstance(one, str) and len(one) <= MAX_TEXT_NUMBER) for one in fit.args)
    return "" if fits else "its arguments are no plain numbers"


def _range(fit: Fit) -> str:
    fits = 1 <= len(fit.args) <= 3 and all(one is None or is_int(one, -(2**63)) for one in fit.args)
    return "" if fits else "its arguments are no whole numbers"


def _slice(fit: Fit) -> str:
    fits = 1 <= len(fit.args) <= 3 and all(is_scalar(one) and not isinstance(one, Span) for one in fit.args)
    return "" if fits else "its arguments are no plain values"


def _deque(fit: Fit) -> str:
    """`deque()`, `deque([], maxlen)`."""
    match fit.args:
        case ():
            return ""
        case (List() | Tuple(),):
            return ""
        case (List() | Tuple(), maxlen) if maxlen is None or is_int(maxlen):
            return ""
    return "its arguments are no list and length"


def _defaultdict(fit: Fit) -> str:
    """`defaultdict(factory)`: the factory runs at a missing key, with no arguments; it is a name, so it must be inert."""
    match fit.args:
        case () | (None,) | (Name(),):
            return ""
    return "its factory is no plain class or function"


def _regex(fit: Fit) -> str:
    """`re._compile(pattern, flags)`; flags are data, the pattern is bounded."""
    match fit.args:
        case (str() | bytes() as pattern, flags) if len(pattern) <= MAX_PATTERN and (is_int(flags, 0, 0xFFFF) or isinstance(flags, Made)):
            return ""
        case (str() | bytes() as pattern,) if len(pattern) <= MAX_PATTERN:
            return ""
    return "its arguments are no pattern and flags"


def _datetime(fit: Fit) -> str:
    """`datetime(b"ten bytes"[, tzinfo])` or its fields; a time zone is an object that was made before."""
    if not fit.args or len(fit.args) > 8:
        return "its arguments are no date"
    first, *rest = fit.args
    plain = is_encoded(first) or (isinstance(first, bytes | str) and len(first) <= 20) or is_int(first, 0, 10_000)
    fits = plain and all(one is None or is_int(one, 0, 10_000_000) or isinstance(one, Made) for one in rest)
    return "" if fits else "its arguments are no date"


def _timezone(fit: Fit) -> str:
    match fit.args:
        case (Made() as offset,) | (Made() as offset, str()) if offset.calls("datetime.timedelta"):
            return ""
    return "its arguments are no offset and name"


def _partial(fit: Fit) -> str:
    """`functools.partial(function)`: nothing is called; the function is a name, so it must be inert."""
    return "" if len(fit.args) == 1 and isinstance(fit.args[0], Name) and _no_kwargs(fit) else "it does not wrap one plain function"


def _bound(fit: Fit) -> str:
    """`MethodType(function, instance)`: as a partial, nothing is called; the function is a name, so it must be inert."""
    match fit.args:
        case (Name(), owner) if owner is not None and _no_kwargs(fit):
            return ""
    return "it does not bind one plain function to a value"


def _partial_state(fit: Fit) -> str:
    """`(function, args, kwargs, __dict__)`: the function is inert, so it may be held with any arguments."""
    match fit.state:
        case Tuple(items=(Name(), Tuple(), Dict(), last)) if last is None or isinstance(last, Dict):
            return "" if last is None else attributes(last)
    return "it does not wrap one plain function"


def _exception(fit: Fit) -> str:
    """Exceptions only keep their arguments."""
    return "" if _no_kwargs(fit) else "it takes no keyword arguments"


def _uuid_state(fit: Fit) -> str:
    """`{"int": n}`, perhaps with `is_safe`."""
    match fit.state:
        case Dict(pairs=pairs) if all(key in ("int", "is_safe") for key, _ in pairs):
            return ""
    return "its state is no number"


def _path(fit: Fit) -> str:
    """`PurePosixPath("a", "b")`: text only, the file system is not touched."""
    return "" if all(isinstance(one, str) for one in fit.args) and _no_kwargs(fit) else "its arguments are no text"


def _address(fit: Fit) -> str:
    match fit.args:
        case (str() | int() | Tuple(),):
            return "" if is_plain(fit.args[0]) else "its argument is no address"
    return "its argument is no address"


def _enum(fit: Fit) -> str:
    """A member by its value."""
    return "" if len(fit.args) == 1 and is_plain(fit.args[0]) else "its argument is no plain value"


def _random_state(fit: Fit) -> str:
    return "" if is_plain(fit.state) else "its state is no plain value"


def _itemgetter(fit: Fit) -> str:
    return "" if fit.args and all(is_plain(one) for one in fit.args) else "its arguments are no plain keys"


def _one_scalar(value: Value) -> bool:
    return is_scalar(value) and not isinstance(value, Span)


def _chained(fit: Fit) -> str:
    """`itertools.count(start, step)`, `repeat(value)`: plain numbers."""
    return "" if len(fit.args) <= 2 and all(_one_scalar(one) for one in fit.args) else "its arguments are no plain values"


def _two_numbers(fit: Fit) -> str:
    """`NormalDist.__setstate__((mu, sigma))`."""
    pair = isinstance(fit.state, Tuple) and len(fit.state.items) == 2 and all(is_number(one) for one in fit.state.items)
    return "" if pair else "its state is no two numbers"


def _bytes_io(fit: Fit) -> str:
    """`(bytes, position, attributes)`."""
    match fit.state:
        case Tuple(items=(data, place, rest)) if is_bytes(data) and is_int(place) and (rest is None or isinstance(rest, Dict)):
            return "" if rest is None else attributes(rest)
    return "its state is no bytes and a position in them"


def _string_io(fit: Fit) -> str:
    """`(text, newline, position, attributes)`."""
    match fit.state:
        case Tuple(items=(text, newline, place, rest)) if is_text(text) and newline in (None, "", "\n", "\r", "\r\n") and is_int(place):
            return "" if rest is None else attributes(rest)
    return "its state is no text and a position in it"


def _decimal_context(fit: Fit) -> str:
    """`Context(prec, rounding, Emin, Emax, capitals, clamp, flags, traps)`; the lists hold decimal's own exceptions."""
    if len(fit.args) != 8 or not all(type(one) is int or isinstance(one, str) for one in fit.args[:6]):
        return "its arguments are none of a context's"
    signals = [one for part in fit.args[6:] for one in (part.items if isinstance(part, List) else (None,))]
    own = all(isinstance(one, Name) and one.module == "decimal" for one in signals)
    return "" if own else "it raises something other than decimal's own exceptions"


ARGUMENTS: Mapping[str, Callable[[Fit], str]] = {
    "container": _container,
    "hashed-container": _hashed,
    "type-of-none": _type_of_none,
    "array": _array,
    "array-bytes": _array_bytes,
    "zone-name": _zone,
    "bytes": _bytes,
    "encode": _encode,
    "number": _number,
    "scalars": _scalars,
    "one-scalar": _str,
    "text-number": _text_number,
    "range": _range,
    "slice": _slice,
    "deque": _deque,
    "defaultdict": _defaultdict,
    "regex": _regex,
    "datetime": _datetime,
    "timezone": _timezone,
    "partial": _partial,
    "bound-method": _bound,
    "exception": _exception,
    "pure-path": _path,
    "address": _address,
    "enum-value": _enum,
    "itemgetter": _itemgetter,
    "count": _chained,
    "decimal-context": _decimal_context,
}
STATES: Mapping[str, Callable[[Fit], str]] = {
    "partial": _partial_state,
    "uuid": _uuid_state,
    "random": _random_state,
    "two-numbers": _two_numbers,
    "bytes-io": _bytes_io,
    "string-io": _string_io,
}
