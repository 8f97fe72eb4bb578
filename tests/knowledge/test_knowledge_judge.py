"""The rules before classes and functions that were made to get past them: one trick each."""

import pytest
from knowledge.judge import judge
from knowledge.resolve import universe
from knowledge.rules import load
from knowledge.source import summarise
from knowledge.summary import Wheel

RULES = load()
HARMLESS = {
    "text replaced by text": ("def target(x):\n    return x.replace('a', 'b').rename(columns={'a': 'b'})", "inert"),
    "an index given a written name by its own class": ("class target:\n    def rename(self, n):\n        return n\n    def go(self, n):\n        return self.rename(n)", "inert constructible"),
    "fields of a record": ("import dataclasses\ndef target(x):\n    return [f.name for f in dataclasses.fields(x)]", "inert"),
    "a method of an instance made on the spot, which computes": (
        "class Adder:\n    def plus(self, x):\n        return x + 1\ndef target(x):\n    return Adder().plus(x)",
        "inert",
    ),
    "a function that computes": ("import math\ndef target(x):\n    return math.sqrt(x) + sum(range(3))", "inert"),
    "a function that calls what it is given": ("def target(f, x):\n    return f(x)", "inert"),
    "a plain class": ("class target:\n    def __init__(self, a):\n        self.a = a\n    def predict(self, x):\n        return x @ self.a", "inert constructible"),
    "a class that saves where its caller says": (
        "class target:\n    def __init__(self):\n        self.a = 1\n    def save(self, path):\n        with open(path, 'w') as file:\n            file.write(str(self.a))",
        "inert constructible",
    ),
    "a class whose constructor acts is not held, but constructed": (
        "import tempfile\nclass target:\n    def __init__(self):\n        self.folder = tempfile.mkdtemp()\n    def predict(self, x):\n        return x",
        "constructible",
    ),
    "a state taken as it is": ("class target:\n    def __setstate__(self, state):\n        self.__dict__.update(state)", "inert constructible"),
    "a base whose method is taken by super": ("class A:\n    def f(self):\n        return 1\nclass target(A):\n    def __call__(self):\n        return super().f()", "inert constructible"),
    "a named tuple": ("from collections import namedtuple\ntarget = namedtuple('target', 'a b')", "constructible"),
    "a method that reads an attribute by a computed name": ("class target:\n    def size(self, o):\n        return len(getattr(o, self.n)) > 3", "inert constructible"),
    "a method that picks among names that are written down": (
        "NAMES = ('predict', 'decision_function')\nclass target:\n    def predict(self, x):\n        for name in NAMES:\n            if hasattr(self.e, name):\n                return getattr(self.e, name)(x)",
        "inert constructible",
    ),
    "a method that picks under one condition or the other": (
        "class target:\n    def predict(self, x):\n        m = 'predict_proba' if self.soft else 'predict'\n        return getattr(self.e, m)(x)",
        "inert constructible",
    ),
    "a method that picks one of a family": ("class target:\n    def go(self, x):\n        return getattr(self.e, f'visit_{self.kind}')(x)", "inert constructible"),
    "a visitor over its own methods, none of which acts": (
        "class target:\n    def go(self, x):\n        return getattr(self, self.how)(x)\n    def add(self, x):\n        return x",
        "inert constructible",
    ),
    "attributes copied from another": (
        "class target:\n    def take(self, o):\n        for name in self.names:\n            setattr(self, name, getattr(o, name))",
        "inert constructible",
    ),
    "a type asked for by its builtin where a method is called the same": (
        "import acme\nclass target:\n    def __getattr__(self, name):\n        raise AttributeError(type(self).__name__)\n    def type(self):\n        return acme.f()",
        "",
    ),
    "module.eval() of a network": ("def target(net, x):\n    net.eval()\n    return net(x)", "inert"),
}  # fmt: skip
TRICKS = {
    "types out of text": "import typing\ndef target(x):\n    return typing.get_type_hints(x)",
    "types out of text, as inspect does it": "import inspect\ndef target(x):\n    return inspect.get_annotations(x, eval_str=True)",
    "a class out of names": "import dataclasses\ndef target(n, f):\n    return dataclasses.make_dataclass(n, f)",
    "an instance made anew by its own constructor": "import dataclasses\ndef target(x, **more):\n    return dataclasses.replace(x, **more)",
    "a path moved by what has a name": (
        "class target:\n    def __repr__(self):\n        return str(self.parts[0].index.rename(self.names[0]))"
    ),
    "a path moved over another": "def target(x, y):\n    return x.replace(y)",
    "a method of an instance made on the spot": (
        "class Printer:\n    def write(self, x):\n        return eval(x)\ndef target(x):\n    return Printer().write(x)"
    ),
    "a formula of its state": "class target:\n    def fit(self, x):\n        return self.kind.from_formula(self.formula, x)",
    "a file laid over an array": "import numpy\ndef target(p):\n    return numpy.memmap(p, mode='w+')",
    "os.system": "import os\ndef target(x):\n    os.system(x)",
    "os.system under another name": "from os import system as add\ndef target(x):\n    return add(x)",
    "os.system handed on": "import os\ndef target(xs):\n    return list(map(os.system, xs))",
    "os.system kept in a table": "import os\nTABLE = {'a': os.system}\ndef target(k, x):\n    return TABLE[k](x)",
    "os.system as a default": "import os\ndef target(x, f=os.system):\n    return f(x)",
    "os.system by a constant getattr": "import os\ndef target(x):\n    return getattr(os, 'system')(x)",
    "any attribute by a computed name": "import os\ndef target(n, x):\n    return getattr(os, n)(x)",
    "a value's attribute by a computed name": "def target(o, n, x):\n    return getattr(o, n)(x)",
    "through a function of its own": "import os\ndef a(x):\n    return os.popen(x)\ndef b(x):\n    return a(x)\ndef target(x):\n    return b(x)",
    "through a decorator": "import os\ndef d(f):\n    def inner(x):\n        os.system(x)\n        return f(x)\n    return inner\n@d\ndef target(x):\n    return x",
    "through a lambda of the module": "import os\nrun = lambda x: os.system(x)\ndef target(x):\n    return run(x)",
    "through a partial of the module": "import os, functools\nrun = functools.partial(os.system)\ndef target(x):\n    return run(x)",
    "through an import inside": "def target(x):\n    import subprocess\n    return subprocess.run(x)",
    "through an import of everything": "from os import *\ndef target(x):\n    return system(x)",
    "eval": "def target(x):\n    return eval(x)",
    "eval in a comprehension": "def target(xs):\n    return [eval(x) for x in xs]",
    "exec in an inner class": "def target(x):\n    class A:\n        def f(self):\n            exec(x)\n    return A().f()",
    "import by name": "import importlib\ndef target(x):\n    return importlib.import_module(x)",
    "__import__": "def target(x):\n    return __import__(x)",
    "builtins by another way": "import builtins\ndef target(x):\n    return builtins.eval(x)",
    "globals": "def target(n, x):\n    return globals()[n](x)",
    "an opened file": "def target(x):\n    return open(x).read()",
    "a written array": "def target(a, path):\n    a.tofile(path)",
    "a written table": "def target(a, path):\n    a.to_csv(path)",
    "an evaluated expression over a table": "def target(frame, text):\n    return frame.query(text)",
    "unpickling": "import pickle\ndef target(x):\n    return pickle.loads(x)",
    "unpickling by a value's method": "def target(p, x):\n    return p.loads(x)",
    "an array loader": "import numpy as np\ndef target(x):\n    return np.load(x, allow_pickle=True)",
    "a library that nobody read": "import acme\ndef target(x):\n    return acme.f(x)",
    "a patched module": "import math\ndef target(f):\n    math.sqrt = f",
    "a changed registry": "REGISTRY = {}\ndef target(k, v):\n    REGISTRY[k] = v",
    "the type of a value called": "def target(o, x):\n    return type(o)(x)",
    "a stack frame": "def target(e):\n    return e.__traceback__.tb_frame.f_globals",
    "subclasses": "def target(x):\n    return ().__class__.__base__.__subclasses__()[x]",
    "attrgetter by a computed path": "import operator\ndef target(o, p):\n    return operator.attrgetter(p)(o)",
    "methodcaller": "import operator\ndef target(o, m):\n    return operator.methodcaller(m)(o)",
    "code from text": "import types\ndef target(c):\n    return types.FunctionType(c, {})",
    "a shared library": "import ctypes\ndef target(p):\n    return ctypes.CDLL(p)",
    "a thread's target": "import threading\ndef target(f):\n    threading.Thread(target=f).start()",
    "__setstate__ that opens": "class target:\n    def __setstate__(self, s):\n        self.f = open(s['path'])",
    "__setstate__ that evaluates": "class target:\n    def __setstate__(self, s):\n        self.__dict__.update(s)\n        exec(self.template)",
    "__setstate__ of a base": "class A:\n    def __setstate__(self, s):\n        eval(s)\nclass target(A):\n    pass",
    "__setstate__ by assignment": "def load(self, s):\n    eval(s)\nclass target:\n    __setstate__ = load",
    "__setstate__ by its own method": "class target:\n    def __setstate__(self, s):\n        self.go(s)\n    def go(self, s):\n        eval(s)",
    "__new__ that acts": "import os\nclass target:\n    def __new__(cls, x):\n        os.system(x)\n        return object.__new__(cls)",
    "__new__ of a metaclass's call": "import os\nclass M(type):\n    def __call__(cls, x):\n        os.system(x)\nclass target(metaclass=M):\n    pass",
    "__del__ that removes": "import shutil\nclass target:\n    def __del__(self):\n        shutil.rmtree(self.folder)",
    "__getattr__ that imports": "import importlib\nclass target:\n    def __getattr__(self, n):\n        return getattr(importlib.import_module(self.__dict__['m']), n)",
    "__getattribute__ that evaluates": "class target:\n    def __getattribute__(self, n):\n        return eval(n)",
    "__eq__ that acts, when it is a key": "class target:\n    def __eq__(self, o):\n        return eval(o)",
    "__hash__ that acts": "class target:\n    def __hash__(self):\n        return eval(self.h)",
    "append that acts": "class target:\n    def append(self, x):\n        eval(x)",
    "__setitem__ that acts": "class target(dict):\n    def __setitem__(self, k, v):\n        eval(v)",
    "extend that writes": "class target(list):\n    def extend(self, xs):\n        open(xs[0], 'w')",
    "a setter that acts": "class target:\n    @property\n    def a(self):\n        return 1\n    @a.setter\n    def a(self, v):\n        eval(v)",
    "a property that acts": "class target:\n    @property\n    def a(self):\n        return eval(self.text)",
    "a cached property that loads": "import pickle\nfrom functools import cached_property\nclass target:\n    @cached_property\n    def a(self):\n        return pickle.load(self.f)",
    "a descriptor that imports": "import importlib\nclass target:\n    def __get__(self, o, t):\n        return importlib.import_module(self.name)",
    "__call__ that evaluates": "class target:\n    def __call__(self, x):\n        return eval(self.text)",
    "__len__ that opens": "class target:\n    def __len__(self):\n        return len(open(self.path).read())",
    "__array__ that maps a file": "import numpy as np\nclass target:\n    def __array__(self):\n        return np.memmap(self.path)",
    "__iter__ that connects": "import socket\nclass target:\n    def __iter__(self):\n        return socket.create_connection(self.address)",
    "__repr__ in a notebook": "import os\nclass target:\n    def _repr_html_(self):\n        os.system(self.x)",
    "__reduce__ that acts when copied": "import os\nclass target:\n    def __reduce__(self):\n        os.system(self.x)",
    "predict that evaluates what lies in it": "class target:\n    def predict(self, x):\n        return eval(self.formula)",
    "predict through a function of its module": "def run(t, x):\n    return eval(t)\nclass target:\n    def predict(self, x):\n        return run(self.formula, x)",
    "predict that evaluates over a table": "class target:\n    def predict(self, frame):\n        return frame.eval(self.formula)",
    "close that removes a file": "import os\nclass target:\n    def close(self):\n        os.remove(self.path)",
    "release of a base that removes": "import os\nclass A:\n    def release(self):\n        os.unlink(self.path)\nclass target(A):\n    pass",
    "a base that nobody read": "import acme\nclass target(acme.Base):\n    pass",
    "a base that is computed": "class target(type('A', (), {})):\n    pass",
    "a base under a condition": "try:\n    from acme import Base\nexcept ImportError:\n    Base = object\nclass target(Base):\n    pass",
    "two definitions, one of which acts": "import os\nif os.name == 'nt':\n    def target(x):\n        return x\nelse:\n    def target(x):\n        os.system(x)",
    "a name that comes from __getattr__": "def __getattr__(n):\n    import importlib\n    return importlib.import_module(n)\ndef target(x):\n    return helper(x)",
    "a method of another value, picked by its state": "class target:\n    def predict(self, x):\n        return getattr(self.e, self.m)(x)",
    "picked in a comprehension": "class target:\n    def predict(self, x):\n        return [getattr(e, m)(x) for e, m in zip(self.es, self.ms)]",
    "picked into a local name, then called": "class target:\n    def predict(self, x):\n        f = getattr(self.e, self.m)\n        return f(x)",
    "picked from a module": "class target:\n    def predict(self, x):\n        import math\n        return getattr(math, self.m)(x)",
    "picked and handed to map": "class target:\n    def predict(self, x):\n        return list(map(getattr(self.e, self.m), x))",
    "picked and kept": "class target:\n    def predict(self, x):\n        self.f = getattr(self.e, self.m)",
    "picked along a path": "class target:\n    def predict(self, x):\n        from functools import reduce\n        return reduce(getattr, self.path, self.e)(x)",
    "picked by __getattribute__": "class target:\n    def predict(self, x):\n        return self.e.__getattribute__(self.m)(x)",
    "picked by object.__getattribute__": "class target:\n    def predict(self, x):\n        return object.__getattribute__(self.e, self.m)(x)",
    "picked out of vars": "class target:\n    def predict(self, x):\n        return vars(self.e)[self.m](x)",
    "picked out of a __dict__": "class target:\n    def predict(self, x):\n        return self.e.__class__.__dict__.get(self.m)(self.e, x)",
    "picked by a name half of which is fixed, but too little": "class target:\n    def predict(self, x):\n        return getattr(self.e, 'to' + self.m)(x)",
    "picked by a prefix under which something acts": "class target:\n    def predict(self, x):\n        return getattr(self.e, 'to_' + 'p' + self.m)(x)",
    "picked by a constant that is bound a second time": "class target:\n    def predict(self, x):\n        m = 'predict'\n        for m in self.ms:\n            pass\n        return getattr(self.e, m)(x)",
    "picked by a constant under a walrus": "class target:\n    def predict(self, x):\n        return getattr(self.e, (m := self.m) or 'predict')(x)",
    "a table that applies a method by name with arguments": "class target:\n    def predict(self, x):\n        return x.agg(self.m, **self.given)",
    "a table that transforms itself by name": "class target:\n    def predict(self, x):\n        return self.frame.transform(self.m, **self.given)",
    "picked in a property that returns it": "class target:\n    @property\n    def f(self):\n        return getattr(self.e, self.m)",
    "picked from itself, where something of its own acts": "import os\nclass target:\n    def go(self, x):\n        return getattr(self, self.m)(x)\n    def drop(self, x):\n        os.remove(x)",
    "picked in a function that it calls": "def ask(e, m, x):\n    return getattr(e, m)(x)\nclass target:\n    def predict(self, x):\n        return ask(self.e, self.m, x)",
    "picked in a nested function": "class target:\n    def predict(self, x):\n        def one(m):\n            return getattr(self.e, m)(x)\n        return [one(m) for m in self.ms]",
    "picked in a base": "class A:\n    def _go(self, m, x):\n        return getattr(self.e, m)(x)\nclass target(A):\n    def predict(self, x):\n        return self._go(self.m, x)",
    "getattr handed on": "def target(f, o, p):\n    return f(getattr, p, o)",
    "source that does not parse": "def target(x):\n    return x\ndef (",
}  # fmt: skip


@pytest.mark.parametrize("trick", HARMLESS, ids=str)
def test_what_harms_nobody_is_let_in(trick):
    source, uses = HARMLESS[trick]
    assert " ".join(_uses(source)) == uses


@pytest.mark.parametrize("trick", TRICKS, ids=str)
def test_what_acts_is_not_let_in(trick):
    assert _uses(TRICKS[trick]) == (), trick


def test_a_trick_in_another_module_of_the_library_is_found():
    assert (
        _uses(
            "from lib.inner import helper\ndef target(x):\n    return helper(x)",
            **{"lib.inner": "import os\ndef helper(x):\n    os.system(x)"},
        )
        == ()
    )


def test_a_trick_behind_a_re_export_is_found():
    more = {"lib.inner": "from lib.deep import helper", "lib.deep": "from os import system as helper"}
    assert _uses("from lib import inner\ndef target(x):\n    return inner.helper(x)", **more) == ()


def test_names_that_import_each_other_in_a_circle_end():
    more = {"lib.a": "from lib.b import helper", "lib.b": "from lib.a import helper"}
    assert _uses("from lib.a import helper\ndef target(x):\n    return helper(x)", **more) == ()


def test_a_native_function_is_unknown_unless_its_library_is_named():
    assert _uses("from lib._fast import run\ndef target(x):\n    return run(x)", natives=("lib._fast",)) == ()


def test_nothing_is_ever_callable_by_rules():
    assert not any("callable" in _uses(source) for source, _ in HARMLESS.values())


def _uses(source, natives=(), **more):
    texts = {"lib": "", "lib.mod": source, **more}
    read = {name: summarise(text.encode(), name, package=name == "lib") for name, text in texts.items()}
    wheel = Wheel(modules={name: found for name, found in read.items() if found is not None}, natives=natives)
    found = [one.uses for one in judge(wheel, universe([wheel], RULES.left_out), RULES) if (one.module, one.name) == ("lib.mod", "target")]
    return found[0] if found else ()
