"""XML as a stream of elements, from a parser that resolves nothing.

Rules
1. No document type, so no entity of the document's own (billion laughs, external entities): the parser stops at its first sign.
2. No processing instruction that styles or runs (`xml-stylesheet`, `php`), no XInclude, no XSLT.
3. Depth, elements and the length of text have bounds. What follows the root element is a fault.
4. What acts when shown or loaded by its kind (script elements, event attributes, script addresses, serialised objects of Java and .NET) is
   collected for the format to judge.

Parsing is expat's, a bounded copy of the bytes at a time; nothing of the document names a file that is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from xml.parsers import expat

from vouchgate.scanning.verdict import Refuse

MAX_DEPTH = 400
"""Elements within each other: a decision tree nests one a level."""
MAX_ELEMENTS = 20_000_000
CHUNK_BYTES = 1024**2
REMEDY = "write the document again with the library that made it, without document type, scripts or includes"
_INCLUDES = ("http://www.w3.org/2001/XInclude", "http://www.w3.org/2003/XInclude", "http://www.w3.org/1999/XSL/Transform")
_CODE_SPACES = ("clr-namespace:", "http://schemas.microsoft.com/winfx/2006/xaml", "http://schemas.microsoft.com/developer/msbuild")
_PAGE_SPACES = ("http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg")
_SCRIPTS = frozenset(("iframe", "object", "embed", "foreignobject", "handler", "listener"))
"""Elements that run or load something in a page; elsewhere (annotations have objects) they are words."""
_OBJECTS = frozenset(("customlayer", "objectdataprovider", "xmldecoder", "project", "beans"))

Attributes = dict[str, str]
Begin = Callable[[tuple[str, ...], Attributes], None]
"""Called with the path of local names, outermost first, and the attributes."""
Text = Callable[[tuple[str, ...], str], None]


@dataclass
class Seen:
    """What the whole document says."""

    root: str = ""
    elements: int = 0
    acts: list[tuple[int, str]] = field(default_factory=list)
    """(line, what) of everything that rule 4 names."""


class _Found(Exception):
    """Stops at the root."""


def root_of(head: bytes, *, whole: bool) -> str:
    """Local name of the first element, `!doctype` where one stands before it, empty where the bytes begin no XML."""
    found: list[str] = []

    def begin(name: str, _: Attributes) -> None:
        found.append(name.rpartition(" ")[2])
        raise _Found

    def doctype(*_: object) -> None:
        found.append("!doctype")
        raise _Found

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler, parser.StartDoctypeDeclHandler = begin, doctype
    try:
        parser.Parse(head, whole)
    except _Found:
        return found[0]
    except (expat.ExpatError, ValueError, LookupError):
        return ""
    return ""


def read_xml(view: memoryview, rule: str, begin: Begin | None = None, text: Text | None = None) -> Seen:
    """All of it. Raises `Refuse`."""
    return _Walk(rule, begin, text).run(view)


class _Walk:
    def __init__(self, rule: str, begin: Begin | None, text: Text | None) -> None:
        self._rule, self._begin, self._text = rule, begin, text
        self._path: list[str] = []
        self._seen = Seen()
        self._parser = parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler = lambda *_: self._refuse(
            "doctype", "it declares a document type, whose entities can grow or reach out"
        )
        parser.EntityDeclHandler = lambda *_: self._refuse("entity", "it declares an entity")
        parser.ExternalEntityRefHandler = self._external
        parser.ProcessingInstructionHandler = self._instruction
        parser.StartNamespaceDeclHandler = self._namespace
        if text:
            parser.CharacterDataHandler = self._data

    def run(self, view: memoryview) -> Seen:
        try:
            for here in range(0, len(view), CHUNK_BYTES):
                piece = bytes(view[here : here + CHUNK_BYTES])
                self._parser.Parse(piece, here + CHUNK_BYTES >= len(view))
        except (expat.ExpatError, ValueError, LookupError) as error:
            self._refuse("malformed", f"it is no well-formed XML: {str(error)[:100]}")
        return self._seen

    def _refuse(self, name: str, why: str) -> None:
        raise Refuse(f"{self._rule}:{name}", f"line {self._parser.CurrentLineNumber}", why, REMEDY)

    def _external(self, *_: object) -> int:
        self._refuse("entity", "it refers to an external entity")
        return 0

    def _act(self, what: str) -> None:
        if len(self._seen.acts) < 20:
            self._seen.acts.append((self._parser.CurrentLineNumber, what))

    def _instruction(self, target: str, _: str) -> None:
        if target.lower() != "xml":
            self._refuse("instruction", f"the processing instruction `{target[:40]!a}` makes a reader style or run something")

    def _namespace(self, _: str | None, uri: str | None) -> None:
        if (uri or "").startswith(_INCLUDES):
            self._refuse("include", "it uses XInclude or XSLT, which fetch or run what they name")
        if (uri or "").startswith(_CODE_SPACES):
            self._refuse("objects", "it is a serialised object or build of .NET, which its reader runs")

    def _start(self, name: str, attributes: Attributes) -> None:
        local = name.rpartition(" ")[2]
        self._path.append(local)
        seen = self._seen
        seen.elements += 1
        seen.root = seen.root or local
        if len(self._path) > MAX_DEPTH or seen.elements > MAX_ELEMENTS:
            self._refuse("depth", f"its elements lie deeper than {MAX_DEPTH}, or are more than {MAX_ELEMENTS}")
        lower = local.lower()
        if lower == "script" or (lower in _SCRIPTS and name.startswith(_PAGE_SPACES)):
            self._act(f"the element `{local[:40]!a}` runs what it holds")
        if (len(self._path) == 1 and lower in _OBJECTS) or "java.beans.XMLDecoder" in attributes.values():
            self._refuse("objects", "its reader constructs and calls what it names")
        for key, value in attributes.items():
            plain = "".join(value.split()).lower()
            if (key[:2].lower() == "on" and key.isalpha() and len(key) > 4) or plain.startswith(
                ("javascript:", "vbscript:", "data:text/html")
            ):
                self._act(f"the attribute `{key[:40]!a}` runs when it is shown")
        if self._begin:
            self._begin(tuple(self._path[-8:]), attributes)

    def _end(self, _: str) -> None:
        self._path.pop()

    def _data(self, data: str) -> None:
        if self._text and not data.isspace():
            self._text(tuple(self._path[-8:]), data)
