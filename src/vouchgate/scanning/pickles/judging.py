"""Judges what a pickle does with names: each use needs an entry of the knowledge base that allows exactly it.

Rules
1. A call (REDUCE; OBJ and INST with arguments) needs a `callable` entry whose `arguments` rule fits. What a call gives is never called.
2. A construction (NEWOBJ; OBJ and INST without arguments) needs a `constructible` entry; its arguments, if any, must fit the `arguments` rule.
3. A state (BUILD) is given once, to what was made here, and must fit the entry's `state` rule; items and keys are put only into what that rule
   lets grow. A name itself takes neither: that would change a class for the whole process.
4. A name that anything holds as a value, or that is popped unused, must be `inert`: whatever holds it may call it later.
5. `copyreg._reconstructor` and its kin construct what their arguments name (rule 2); `getattr` of a class is that dotted name (rule 4), and
   a type that cloudpickle or dill looks up by its name is the type's own.
6. A key must be hashable by a walk of bounded size: tuples of tuples of one tuple hash in exponential time.
7. No key of a dict is a name that Python, numpy or torch ask any object for: some objects answer attributes from their keys (`Bunch`, `Module`), and
   an `__array_interface__` of the file's choosing is an address in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vouchgate.scanning.knowledge.entries import Entry, Knowledge
from vouchgate.scanning.pickles import wording
from vouchgate.scanning.pickles.arrays import WRAPPERS, read_array
from vouchgate.scanning.pickles.dialects import NOTHING, Dialect
from vouchgate.scanning.pickles.fitting import Fit, is_attribute, is_protocol
from vouchgate.scanning.pickles.hashing import unhashable
from vouchgate.scanning.pickles.names import meanings
from vouchgate.scanning.pickles.shapes import arguments_misfit, may_grow, state_misfit
from vouchgate.scanning.pickles.state import Broken, State
from vouchgate.scanning.pickles.taking import raw_of
from vouchgate.scanning.pickles.torch_bytes import storage_in
from vouchgate.scanning.pickles.values import Dict, How, Made, Name, Persistent, Tuple, Value
from vouchgate.scanning.pickles.work import visit
from vouchgate.scanning.verdict import MAX_REASONS, Reason, Weight, at

CONSTRUCTORS = {"copyreg-reconstructor": 3, "copyreg-newobj": -1, "copyreg-newobj-ex": 3}
"""Argument rules whose calls construct their first argument (rule 5), and how many arguments they take."""
GETATTR = "getattr-of-a-class"
TORCH_BYTES = "torch-bytes"
"""Argument rule of what runs a file of torch's that stands in its argument."""
MAX_KEY = 512
"""Bytes of a key that is an element of an array of texts, four a character: no name of a protocol is longer."""
TYPES_BY_NAME = {
    "type-of-types": ("types", ("MethodType", "SimpleNamespace", "MappingProxyType", "GenericAlias")),
    "type-of-dill": ("types", ("MethodType",)),
}
"""Argument rules whose calls give a type by its name: the module it lies in, and the names that have an entry there."""
ENUM = "enum-value"
"""Argument rule of enumerations: their members are attributes of theirs, and plain."""
BASES = frozenset(
    f"builtins.{name}" for name in ("object", "dict", "list", "tuple", "set", "frozenset", "int", "float", "str", "bytes", "complex")
)


class Judge:
    """Of one pickle."""

    def __init__(self, view: memoryview, knowledge: Knowledge, dialect: Dialect) -> None:
        self.view, self.knowledge, self.dialect = view, knowledge, dialect
        self.reasons: list[Reason] = []
        self.names: list[Name] = []
        self._told: set[tuple[str, str]] = set()
        self._entries: dict[tuple[str, str, bool], tuple[str, str, Entry | None]] = {}
        self.inner: Callable[[memoryview, Dialect, int], Any]
        """Runs a pickle that stands in a value of this one."""
        self._lent: list[tuple[Name, Tuple]] = []
        """Classes that a rule accounted for as arguments, and the tuple they stand in."""

    # Names

    def name(self, module: str, name: str, place: int, protocol: int) -> Name:
        """A name as this protocol's loaders look it up."""
        key = (module, name, protocol < 3)
        found = self._entries.get(key)
        if found is None:
            found = self._entries[key] = self._find(module, name, protocol, place)
        made = Name(found[0], found[1], found[2], place)
        self.names.append(made)
        return made

    def _find(self, module: str, name: str, protocol: int, place: int) -> tuple[str, str, Entry | None]:
        if not (_is_path(module) and _is_path(name)):
            self.refuse("odd-name", place, f"it imports `{wording.show(module)}.{wording.show(name)}`, which is no plain name", name)
            return module, name, None
        if self.dialect.own and module.partition(".")[0] == self.dialect.own:
            return module, name, _OWN
        known = [(*meaning, self.knowledge.find(*meaning)) for meaning in meanings(module, name, protocol)]
        return next((one for one in known if one[2] is None), known[0])

    def settle(self) -> None:
        """Rule 4, once everything has been used."""
        for name, holder in self._lent:
            name.used += not holder.shared
        for name in self.names:
            if name.pushed <= name.used or (name.entry and "inert" in name.entry.uses):
                continue
            self._unsettled(name)

    def _unsettled(self, name: Name) -> None:
        if name.entry is not None:
            why = f"it holds `{wording.show(name.full)}` as a value, and whatever holds it may call it later"
            self.refuse("not-inert", name.at, why, name.full, wording.remedy(name))
        elif ("unknown", name.full) not in self._told:
            why = f"loading it imports `{wording.show(name.full)}`, which is not known to be harmless"
            self.refuse("unknown-name", name.at, why, name.full, wording.remedy(name))

    # Calls and constructions

    def call(self, how: How, callee: Value, args: Value, place: int) -> Value:
        """Rule 1."""
        if isinstance(callee, Name) and callee.entry is _OWN and not isinstance(args, Tuple):
            args = Tuple((args,))  # a member of the file's own enumeration (torch `pickler.cpp`, `pushIValueImpl`)
        if not isinstance(args, Tuple):
            raise Broken("arguments", place, "arguments are no tuple")
        made = Made(how, callee if isinstance(callee, Name) else None, args.items, at=place)
        if not isinstance(callee, Name):
            self.refuse("calls-result", place, "it calls what another call gave, or what it unpacked, and no name that could be known")
            return made
        callee.used += 1
        entry = callee.entry
        if entry is None:
            self._unknown_call("calls", callee, args.items, place)
        elif "callable" not in entry.uses:
            why = f"loading it calls `{wording.show(callee.full)}`{wording.arguments(args.items)}, which may only be {_may(entry)}"
            self.refuse("not-callable", place, why, callee.full, wording.remedy(callee))
        elif entry.arguments in CONSTRUCTORS:
            return self._reconstruct(entry.arguments, callee, args, place) or made
        elif entry.arguments == GETATTR:
            return self._attribute(args, place) or made
        elif entry.arguments in TYPES_BY_NAME:
            return self._type_named(entry.arguments, args, place) or made
        elif entry.arguments == TORCH_BYTES:
            self._unpack(made, place)
        else:
            self._fit(entry, callee, args, None, place)
        return made

    def _unpack(self, made: Made, place: int) -> None:
        """A storage in bytes: what they hold is run over abstract values, too."""
        made.gives, wrong = storage_in(self.view, made.args, self._run_inner)
        if wrong and made.name is not None:
            why = f"loading it calls `{wording.show(made.name.full)}`, which runs what is in its argument: {wrong}"
            self.refuse("arguments", place, why, made.name.full, wording.remedy(made.name))

    def _run_inner(self, view: memoryview, dialect: Dialect, begin: int) -> Any:
        ran = self.inner(view, dialect, begin)
        self._absorb(ran)
        return ran

    def _unknown_call(self, verb: str, callee: Name, args: tuple[Value, ...], place: int) -> None:
        self._told.add(("unknown", callee.full))
        why = f"loading it {verb} `{wording.show(callee.full)}`{wording.arguments(args)}, which is not known to be harmless"
        self.refuse("unknown-call", place, why, callee.full, wording.remedy(callee))

    def _fit(self, entry: Entry, callee: Name, args: Tuple, kwargs: Dict | None, place: int) -> None:
        fit = Fit(self.view, self.knowledge, entry, args.items, kwargs)
        misfit = arguments_misfit(entry.arguments, fit)
        self._lent += [(name, args) for name in fit.constructed]
        if misfit:
            why = f"loading it calls `{wording.show(callee.full)}`{wording.arguments(args.items)}: {misfit}"
            self.refuse("arguments", place, why, callee.full, wording.remedy(callee))

    def construct(self, how: How, kind: Value, args: Value, kwargs: Dict | None, place: int) -> Made:
        """Rule 2."""
        if not isinstance(args, Tuple):
            raise Broken("arguments", place, "arguments are no tuple")
        made = Made(how, kind if isinstance(kind, Name) else None, args.items, kwargs, at=place)
        if not isinstance(kind, Name):
            self.refuse("calls-result", place, "it constructs what another call gave, and no class that could be known")
            return made
        kind.used += 1
        entry = kind.entry
        if entry is None:
            self._unknown_call("constructs", kind, args.items, place)
        elif "constructible" not in entry.uses:
            why = f"loading it constructs `{wording.show(kind.full)}`, which may only be {_may(entry)}"
            self.refuse("not-constructible", place, why, kind.full, wording.remedy(kind))
        elif args.items or (kwargs and kwargs.pairs):
            self._fit(entry, kind, args, kwargs, place)
        return made

    def instantiate(self, how: How, kind: Value, args: list[Value], place: int) -> Value:
        """OBJ and INST: a call where there are arguments (or where the class asks for it), a construction where there are none."""
        return self.call(how, kind, Tuple(tuple(args)), place) if args else self.construct(how, kind, Tuple(()), None, place)

    def _reconstruct(self, rule: str, callee: Name, args: Tuple, place: int) -> Made | None:
        """Rule 5: what is constructed, or None where the arguments are not theirs."""
        count, items = CONSTRUCTORS[rule], args.items
        if not items or (count > 0 and len(items) != count) or not isinstance(items[0], Name):
            self.refuse("arguments", place, f"loading it calls `{callee.full}` with arguments that name no class", callee.full)
            return None
        self._lent += [(name, args) for name in items[:2] if isinstance(name, Name)]
        kind, rest, kwargs = items[0], Tuple(items[1:]), None
        if rule == "copyreg-reconstructor":
            base = items[1]
            if not isinstance(base, Name) or base.full not in BASES:
                self.refuse("arguments", place, "it constructs a class by a base that is none of the plain ones", callee.full)
            rest = Tuple(()) if items[2] is None else Tuple((items[2],))
        elif rule == "copyreg-newobj-ex":
            if not isinstance(items[1], Tuple) or not isinstance(items[2], Dict):
                raise Broken("arguments", place, "arguments are no tuple and dict")
            rest, kwargs = items[1], items[2]
        made = self.construct("newobj", kind, rest, kwargs, place)
        kind.used -= 1  # it stands in the tuple, which was lent
        return made

    def _attribute(self, args: Tuple, place: int) -> Value:
        """`getattr(class, "name")`, or of what a class constructed: the dotted name, where that is known itself."""
        items = args.items
        made = items[0] if len(items) == 2 and isinstance(items[0], Made) else None
        if (
            made is not None
            and made.name is not None
            and made.how == "newobj"
            and is_attribute(str(items[1]))
            and not _keeps(made, items[1])
        ):
            return self.name(made.name.module, f"{made.name.name}.{items[1]}", place, 5)
        if len(items) == 2 and isinstance(items[0], Name) and isinstance(items[1], str) and is_attribute(items[1]):
            owner, attribute = items[0], items[1]
            self._lent.append((owner, args))
            if owner.entry is not None and owner.entry.arguments == ENUM and not attribute.startswith("_"):
                return Made("reduce", owner, (attribute,), at=place)
            return self.name(owner.module, f"{owner.name}.{attribute}", place, 5)
        self.refuse("getattr", place, f"loading it calls `getattr`{wording.arguments(items)}, which reaches anything that an object holds")
        return None

    def _type_named(self, rule: str, args: Tuple, place: int) -> Value:
        """`_builtin_type("MethodType")`: what calls it next is judged as a call of that type."""
        module, known = TYPES_BY_NAME[rule]
        match args.items:
            case (str() as name,) if name in known:
                return self.name(module, name, place, 5)
        self.refuse(
            "arguments",
            place,
            f"loading it looks up a type by its name{wording.arguments(args.items)}, which is none that values are made of",
        )
        return None

    # State

    def build(self, made: Value, value: Value, place: int) -> None:
        """Rule 3."""
        if not isinstance(made, Made):
            self.refuse("state-of-a-name", place, "it sets attributes on what it did not make, which changes it for the whole process")
            return
        if made.built or made.closed:
            self.refuse("second-state", place, "it sets an object's state twice, or after something was made that rests on it")
        made.state, made.built = value, True
        entry = made.name.entry if made.name else None
        if entry is None or made.name is None:
            return  # refused where it was made
        rule = entry.state or ("none" if made.how == "reduce" or "constructible" not in entry.uses else "attributes")
        fit = Fit(self.view, self.knowledge, entry, made=made, state=value)
        misfit = state_misfit(rule, fit)
        if isinstance(value, Tuple):
            self._lent += [(name, value) for name in fit.constructed]
        if misfit:
            self.refuse("state", place, f"it sets the state of `{wording.show(made.name.full)}`: {misfit}", made.name.full)

    def grows(self, target: Value, part: str, place: int) -> list[Any]:
        """Where items or pairs for `target` go."""
        if not isinstance(target, Made):
            raise Broken("stack", place, "it puts items into what takes none")
        entry = target.name.entry if target.name else None
        if target.closed:
            self.refuse("late-items", place, "it puts something into an object after something was made that rests on it")
        if entry is not None and target.name is not None and not may_grow(entry.state, part):
            what = "keys" if part == "pairs" else "items"
            self.refuse("items", place, f"it sets {what} on `{wording.show(target.name.full)}`, which runs its code", target.name.full)
        return target.pairs if part == "pairs" else target.items

    def hashes(self, key: Value, place: int) -> None:
        """Rule 6."""
        kind = type(key)
        if kind is int or kind is float or kind is bytes or key is None or kind is bool:
            return
        what = unhashable(key)
        if what:
            self.refuse("key", place, f"a key of a dict or a member of a set {what}")

    def protocol(self, key: Value, place: int) -> None:
        """Rule 7, of a key that is a text, or that makes one: `str("...")`, or an element of an array of texts."""
        text = key if isinstance(key, str) else key.args[-1] if isinstance(key, Made) and key.args else None
        if isinstance(key, Made) and not isinstance(text, str):
            raw = raw_of(self.view, text)
            text = None if raw is None else bytes(raw[:MAX_KEY]).replace(b"\0", b"").decode("latin-1")
        if isinstance(text, str) and is_protocol(text):
            self.refuse("protocol", place, f"a key is `{wording.show(text)}`, which libraries ask objects for and act on", text)

    # What dialects add

    def persistent(self, state: State, pid: Value) -> Value:
        """What the loader puts in for a persistent id."""
        place, rule = state.begin, self.dialect.persistent
        made = Persistent(pid, place)
        state.persistent.append(made)
        if rule is None:
            self.refuse("persistent-id", place, "it refers to an object outside of the file, which no loader of this format gives")
            return made
        fit = Fit(self.view, self.knowledge, _NO_ENTRY, (pid,))
        misfit = rule(fit)
        if isinstance(pid, Tuple):
            self._lent += [(name, pid) for name in fit.constructed]
        if misfit:
            self.refuse("persistent-id", place, f"it refers to an object outside of the pickle: {misfit}")
        stands_for = self.dialect.stands_for(pid) if self.dialect.stands_for else NOTHING
        if stands_for is NOTHING:
            return made
        if isinstance(stands_for, Name):
            stands_for.pushed += 1
        return stands_for

    def inline(self, state: State, made: Value) -> Value:
        """joblib: behind the state of its wrapper stands the array itself."""
        if not isinstance(made, Made) or not made.calls(*WRAPPERS):
            return made
        array, inner = read_array(state, made)
        if inner is not None:
            self._absorb(inner)
            state.arrays += inner.arrays
        state.arrays.append(array)
        return array

    def _absorb(self, inner: Any) -> None:
        self.names += inner.names
        for name in inner.names:
            name.used = name.pushed  # settled where it was read
        self.reasons = [*self.reasons, *inner.reasons][:MAX_REASONS]

    # Reasons

    def refuse(self, rule: str, place: int, why: str, about: str = "", remedy: str = wording.REMEDY, weight: Weight = "refused") -> None:
        """A reason; each is told once for a name."""
        if (rule, about) in self._told or len(self.reasons) >= MAX_REASONS:
            return
        if about:
            self._told.add((rule, about))
        self.reasons.append(Reason(rule=f"pickle:{rule}", where=at(place), why=why, remedy=remedy, weight=weight))

    def broken(self, rule: str, place: int, why: str, weight: Weight) -> None:
        """The run could not go on."""
        del self.reasons[MAX_REASONS - 1 :]
        self.refuse(rule, place, why, remedy=wording.BROKEN_REMEDY, weight=weight)


Refuser = Callable[[str, int, str], None]
_OWN = Entry(module="", name="", uses=("inert", "constructible", "callable"), arguments="values", state="values+items+pairs", library="")
"""A class or function that the file itself defines, elsewhere."""
_NO_ENTRY = Entry(module="", name="", uses=(), library="")


def _keeps(made: Made, attribute: Value) -> bool:
    """Whether an object has an attribute of its own, so that `getattr` gives that and not its class's."""
    pairs = made.state.pairs if isinstance(made.state, Dict) else []
    visit(len(pairs) + 1)
    return not isinstance(attribute, str) or any(key == attribute for key, _ in pairs) or isinstance(made.state, Tuple)


def _may(entry: Entry) -> str:
    """What the entry does allow."""
    words = {"inert": "held as a value", "constructible": "constructed without arguments", "callable": "called"}
    return " or ".join(words[use] for use in entry.uses) or "nothing"


def _is_path(text: str) -> bool:
    """A module's or qualified name: dotted, ASCII, identifiers (`<locals>` and the like are no names that can be looked up)."""
    return text.isascii() and len(text) <= 1_000 and all(part.isidentifier() for part in text.split("."))
