"""What is known of Python names in source code: modules that only compute, and the members of others that do no harm.

Rules
1. Default-deny: a module that is in no table here is unknown, and code that imports it is put before a person.
2. A wide module (`COMPUTING`) may be used whole but for `ACTING`; of a narrow one (`NARROW`) exactly the listed members.
3. These tables judge source code that a person reads and runs (notebooks); no pickled name is ever looked up in them.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


COMPUTING = words(
    """
    abc array bisect calendar cmath collections colorsys contextlib copy csv dataclasses datetime decimal difflib enum fractions functools
    hashlib heapq html itertools json keyword math numbers operator pprint queue random re reprlib secrets statistics string struct
    textwrap time timeit types typing typing_extensions unicodedata unittest uuid warnings weakref zlib __future__ base64 binascii gc
    traceback argparse bz2 gzip lzma
    numpy pandas matplotlib mpl_toolkits pylab seaborn sklearn scipy statsmodels torch torchvision torchaudio torchtext torchmetrics
    tensorflow tensorflow_datasets tensorflow_probability tensorflow_hub keras transformers datasets tokenizers evaluate accelerate peft
    trl diffusers sentence_transformers safetensors xgboost lightgbm catboost plotly PIL cv2 skimage imageio tqdm nltk spacy gensim
    networkx sympy h5py pyarrow polars dask ipywidgets altair bokeh jax flax optax einops numba shap lime umap hdbscan imblearn
    category_encoders prophet pmdarima sktime lifelines missingno wordcloud textblob yellowbrick mlxtend optuna hyperopt skopt timm
    pytorch_lightning lightning fastai skorch onnx onnxruntime geopandas shapely folium librosa soundfile pydantic tabulate rich squarify
    gymnasium stable_baselines3 torch_geometric xarray patsy tensorboard bs4 openpyxl regex emoji ftfy langdetect faker bitsandbytes
    """
)
"""Modules, by their first name, that are used whole but for `ACTING`."""

NARROW: dict[str, frozenset[str]] = {
    "os": words(
        """path path.* sep linesep name getcwd listdir scandir walk makedirs mkdir cpu_count getpid environ.get getenv stat fspath
        pardir curdir extsep altsep environ[] get_terminal_size urandom"""
    ),
    "sys": words(
        """version version_info path path.* argv exit stdout stdout.* stderr stderr.* stdin maxsize platform executable byteorder
        getsizeof float_info int_info hash_info getrecursionlimit setrecursionlimit flags implementation implementation.*"""
    ),
    "pathlib": frozenset(("Path", "PurePath", "PosixPath", "PurePosixPath", "WindowsPath", "Path.cwd")),
    "io": frozenset(("StringIO", "BytesIO", "TextIOWrapper")),
    "logging": words(
        """getLogger basicConfig info debug warning error critical exception log INFO DEBUG WARNING ERROR CRITICAL NOTSET Logger
        StreamHandler NullHandler Formatter disable captureWarnings"""
    ),
    "platform": frozenset(("python_version", "system", "platform", "machine", "processor", "release", "version", "uname", "node")),
    "glob": frozenset(("glob", "iglob", "escape")),
    "tempfile": frozenset(("mkdtemp", "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "gettempdir")),
    "locale": frozenset(("setlocale", "getlocale", "LC_ALL", "currency", "format_string")),
    "inspect": frozenset(("signature", "getsource", "getdoc", "isclass", "isfunction", "Parameter", "Parameter.*")),
    "multiprocessing": frozenset(("cpu_count",)),
    "IPython": words(
        """display display.display display.clear_output display.Image display.Markdown display.Latex display.Math display.Audio
        display.HTML display.SVG display.JSON display.Pretty core.display core.display.display core.display.HTML
        core.interactiveshell core.interactiveshell.InteractiveShell core.interactiveshell.InteractiveShell.ast_node_interactivity
        core.pylabtools.figsize __version__ display.set_matplotlib_formats"""
    ),
    "google": frozenset(("colab", "colab.drive", "colab.drive.mount", "colab.files", "colab.files.upload", "colab.data_table")),
}
"""Modules of which exactly these members are known harmless; `x.*` is all below `x`, `x[]` is reading and setting by a constant key."""

SETTABLE = words(
    """CUDA_VISIBLE_DEVICES TOKENIZERS_PARALLELISM TF_CPP_MIN_LOG_LEVEL KERAS_BACKEND OMP_NUM_THREADS MKL_NUM_THREADS PYTHONHASHSEED
    TF_FORCE_GPU_ALLOW_GROWTH KMP_DUPLICATE_LIB_OK CUDA_LAUNCH_BLOCKING WANDB_DISABLED HF_HUB_OFFLINE TRANSFORMERS_OFFLINE
    CUBLAS_WORKSPACE_CONFIG TF_ENABLE_ONEDNN_OPTS TF_DETERMINISTIC_OPS PYTORCH_CUDA_ALLOC_CONF XLA_FLAGS PYTORCH_ENABLE_MPS_FALLBACK
    WANDB_MODE WANDB_PROJECT HF_DATASETS_OFFLINE NUMEXPR_MAX_THREADS OPENBLAS_NUM_THREADS LOKY_MAX_CPU_COUNT"""
)
"""Environment variables that change how fast or loud code runs, not which."""

ACTING: dict[str, str] = {
    "torch.hub": "downloads code and runs it",
    "torch.utils.cpp_extension": "compiles and loads native code",
    "torch.ops.load_library": "loads native code",
    "torch.classes.load_library": "loads native code",
    "torch.utils.collect_env": "runs other programs",
    "torch.utils.bottleneck": "runs other programs",
    "torch._inductor": "compiles and loads native code",
    "torch._dynamo": "evaluates code",
    "torch.utils._config_module": "unpickles",
    "torch.jit.unsupported_tensor_ops": "evaluates code",
    "torch.package": "imports code from an archive",
    "torch.distributed.rpc": "calls functions on other machines",
    "torch.serialization.add_safe_globals": "widens what loading may call",
    "torch.fx.experimental": "evaluates code",
    "tensorflow.load_op_library": "loads native code",
    "tensorflow.load_library": "loads native code",
    "tensorflow.io.write_file": "writes files",
    "tensorflow.raw_ops.WriteFile": "writes files",
    "keras.config.enable_unsafe_deserialization": "lets model files run code",
    "tensorflow.keras.config.enable_unsafe_deserialization": "lets model files run code",
    "keras.utils.enable_unsafe_deserialization": "lets model files run code",
    "numpy.f2py": "compiles and loads native code",
    "numpy.ctypeslib": "loads native code",
    "numpy.testing": "evaluates strings as code",
    "numpy.distutils": "runs other programs",
    "numpy.lib._datasource": "fetches files",
    "scipy.weave": "compiles and loads native code",
    "pandas.eval": "evaluates strings as code",
    "pandas.io.clipboard": "runs other programs",
    "PIL.ImageShow": "runs other programs",
    "PIL.ImageMath.eval": "evaluates strings as code",
    "PIL.ImageMath.unsafe_eval": "evaluates strings as code",
    "operator.methodcaller": "calls a method by a name that only running it tells",
    "operator.attrgetter": "reaches an attribute by a name that only running it tells",
    "types.FunctionType": "makes a function of code that only running it tells",
    "types.CodeType": "makes code that only running it tells",
    "types.LambdaType": "makes a function of code that only running it tells",
    "timeit.timeit": "evaluates strings as code",
    "timeit.repeat": "evaluates strings as code",
    "timeit.Timer": "evaluates strings as code",
    "timeit.main": "evaluates strings as code",
    "gc.get_objects": "reaches any object of the process",
    "gc.get_referrers": "reaches any object of the process",
    "sympy.sympify": "evaluates strings as code",
    "sympy.parsing": "evaluates strings as code",
    "sympy.lambdify": "evaluates strings as code",
    "nltk.app": "runs programs of its own",
    "spacy.cli": "runs other programs",
    "imageio.plugins": "runs other programs",
}
"""Members of computing modules that act, by prefix, and what they do; an empty text is a member looked at and found harmless."""

REVIEWED_CALLS: dict[str, str] = {
    "pickle.load": "unpickles",
    "joblib.load": "unpickles",
    "pandas.read_pickle": "unpickles",
    "dill.load": "unpickles",
    "cloudpickle.load": "unpickles",
}
"""Calls that a person must look at: what they load is another artifact, to be scanned by itself."""
PARTLY = frozenset(("pickle", "joblib", "dill", "cloudpickle"))
"""Modules whose other members are refused, except `dump`, `dumps`, `Parallel`, `delayed`, `Memory` and constants."""
PARTLY_FREE = frozenset(("dump", "dumps", "Parallel", "delayed", "cpu_count", "HIGHEST_PROTOCOL", "DEFAULT_PROTOCOL", "hash"))

DENIED_BUILTINS = words(
    "eval exec compile __import__ globals locals vars breakpoint __builtins__ __loader__ __spec__ __build_class__ exit_code"
)
"""Names that make text into code, or reach everything; a mere mention counts."""
REFLECTING_BUILTINS = frozenset(("getattr", "setattr", "delattr", "hasattr"))
"""Harmless with a constant plain name."""

PLAIN_DUNDERS = words(
    """__name__ __version__ __doc__ __init__ __class__ __len__ __getitem__ __call__ __repr__ __str__ __eq__ __hash__ __iter__ __next__
    __enter__ __exit__ __post_init__ __file__ __main__ __all__ __author__ __lt__ __le__ __gt__ __ge__ __ne__ __add__ __sub__ __mul__
    __truediv__ __matmul__ __neg__ __contains__ __setitem__ __bool__ __float__ __int__ __annotations__ __radd__ __rmul__ __abs__ __pow__
    __format__ __array__ __slots__ __new__ __future__ __missing__ __iadd__ __and__ __or__ __xor__ __invert__ __floordiv__ __mod__"""
)
"""Special names that reach nothing but the object itself."""
RUNNING_METHODS = words(
    """system popen getoutput getstatusoutput run_cell run_cell_magic run_line_magic spawnl spawnv spawnve execv execve execl
    execlp execvp posix_spawn check_output check_call exec_module load_module find_spec loads_code fork forkpty run_code runcode runsource
    user_expansions user_call_tip f_globals f_builtins f_locals f_back gi_frame cr_frame tb_frame gi_code co_code func_globals
    func_code load_library LoadLibrary CDLL urlretrieve"""
)
"""Attributes that run something or reach the interpreter, whatever object they are asked of."""
WRITING_METHODS = words("write_text write_bytes unlink rmdir symlink_to hardlink_to chmod")
"""Of a path: a person looks at where they write."""
HIDDEN_MODULES = words(
    """os sys subprocess builtins importlib ctypes socket shutil pickle cPickle marshal runpy codeop pty posix nt urllib2 ftplib telnetlib
    smtplib pdb bdb cffi pkgutil pip ensurepip webbrowser popen2 _posixsubprocess pydoc paramiko pexpect sh fabric plumbum"""
)
"""Modules that must neither be imported nor reached through another one's attributes (`numpy.os.system`)."""
