"""A Keras configuration by an allow-list of classes, at any depth: what is named there is imported and built when the model is loaded.

Rules (keras 3 `saving/serialization_lib.py`, legacy `saving/legacy`; names taken from keras 3.15 and tf.keras 2.15)
1. Every object names a class of `CLASSES`, in a module of Keras itself, not registered under another package. Modules are exact: `keras.utils` and
   `keras.config` hold functions that download and switch checks off (CVE-2025-1550, 8747, 9906).
2. Lambda layers, wrapped Torch, Flax, JAX and SavedModel layers hold code (CVE-2025-9905, 49655): none is in the list.
3. A function is an activation, loss or metric by its plain name.
4. A vocabulary stands in the file: a path would be opened, or fetched (CVE-2025-12058).
5. What is registered by somebody's own package is that package's code: refused, with the way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vouchgate.scanning.scope import shown
from vouchgate.scanning.strict_json import every
from vouchgate.scanning.verdict import Reason

REMEDY = "save the weights alone (`model.save_weights`) and build the model in your own reviewed code, or export it to ONNX"
MAX_REASONS = 10
"""Reasons told about one configuration."""

_LAYERS = """
Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D
AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average AveragePooling1D
AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D BatchNormalization Bidirectional CategoryEncoding CenterCrop Concatenate
ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D
ConvLSTM3D Convolution1D Convolution1DTranspose Convolution2D Convolution2DTranspose Convolution3D Convolution3DTranspose Cropping1D
Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization
Flatten GRU GRUCell GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D GlobalAvgPool1D
GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D GlobalMaxPooling1D GlobalMaxPooling2D
GlobalMaxPooling3D GroupNormalization GroupQueryAttention GroupedQueryAttention HashedCrossing Hashing Identity InputLayer InputSpec
IntegerLookup LSTM LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPool1D MaxPool2D MaxPool3D MaxPooling1D
MaxPooling2D MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization PReLU Permute Pipeline
RMSNormalization RNN RandAugment RandomBrightness RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop
RandomElasticTransform RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert RandomPerspective
RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth RandomHeight RandomZoom ReLU
RepeatVector Rescaling Reshape Resizing ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SeparableConvolution1D
SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D
SpectralNormalization StackedRNNCells StringLookup Subtract TextVectorization ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D
UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D CuDNNGRU CuDNNLSTM LocallyConnected1D LocallyConnected2D
Sequential Functional Model DTypePolicy FloatDTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy DTypePolicyMap Policy KerasTensor
PolicyV1 TensorShape SeedGenerator GetItem NotEqual
"""
_PARTS = """
Constant GlorotNormal GlorotUniform HeNormal HeUniform IdentityInitializer LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer
RandomNormal RandomUniform STFT STFTInitializer TruncatedNormal VarianceScaling Zeros L1 L1L2 L2 OrthogonalRegularizer MaxNorm MinMaxNorm
NonNeg UnitNorm Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion LossScaleOptimizer Muon Nadam RMSprop SGD ScheduleFreeAdamW
CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay PolynomialDecay BinaryCrossentropy
BinaryFocalCrossentropy CTC CategoricalCrossentropy CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle
CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError
MeanSquaredLogarithmicError Poisson SparseCategoricalCrossentropy SquaredHinge Tversky AUC Accuracy BinaryAccuracy BinaryIoU
CategoricalAccuracy ConcordanceCorrelation F1Score FBetaScore FalseNegatives FalsePositives IoU LogCoshError Mean MeanIoU
OneHotIoU OneHotMeanIoU PearsonCorrelation Precision PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError
SensitivityAtSpecificity SparseCategoricalAccuracy SparseTopKCategoricalAccuracy SpecificityAtSensitivity Sum TopKCategoricalAccuracy
TrueNegatives TruePositives MeanMetricWrapper L1_L2 glorot_normal glorot_uniform he_normal he_uniform lecun_normal lecun_uniform ones zeros
"""
_FUNCTIONS = """
celu elu exponential gelu get glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6
selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold
binary_crossentropy categorical_crossentropy categorical_hinge cosine_similarity hinge huber kl_divergence log_cosh mae mape mse msle
mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error poisson sparse_categorical_crossentropy
squared_hinge binary_accuracy categorical_accuracy sparse_categorical_accuracy top_k_categorical_accuracy
sparse_top_k_categorical_accuracy accuracy binary_focal_crossentropy categorical_focal_crossentropy ctc dice tversky
"""
CLASSES = frozenset((_LAYERS + _PARTS).split())
FUNCTIONS = frozenset(_FUNCTIONS.split()) - {"get"}
_OPTIMIZERS = frozenset(("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "Ftrl", "Lion", "Nadam", "RMSprop", "SGD"))
"""What tf.keras 2.11 to 2.15 itself registers under the package `Custom`."""
_VALUES = frozenset(("__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__keras_tensor__", "__tuple__"))
"""Plain values in the serialised form; `__lambda__` and `__typespec__` are none."""
_MODULES = frozenset((
    "keras", "keras.layers", "keras.models", "keras.initializers", "keras.regularizers", "keras.constraints", "keras.optimizers",
    "keras.optimizers.schedules", "keras.losses", "keras.metrics", "keras.activations", "keras.dtype_policies", "keras.random", "builtins",
    "keras.optimizers.legacy", "keras.mixed_precision", "keras.layers.experimental.preprocessing", "keras.layers.experimental",
    "keras.src.models.functional", "keras.src.models.sequential", "keras.src.models.model", "keras.src.engine.functional",
    "keras.src.engine.sequential", "keras.src.engine.training", "keras.src.backend.common.keras_tensor", "keras.engine.functional",
    "keras.engine.sequential", "tensorflow.keras", "tensorflow.keras.layers", "keras.saving",
))  # fmt: skip
_OPERATIONS = frozenset(f"keras.src.ops.{name}" for name in ("numpy", "math", "nn", "linalg", "image"))
"""Modules whose classes only compute on tensors: what arithmetic on Keras tensors becomes."""
_INNER = (
    *(f"keras.src.{part}." for part in ("layers", "optimizers", "losses", "metrics", "initializers", "regularizers", "constraints", "models")),
    *(f"keras.src.backend.{backend}.optimizers." for backend in ("torch", "tensorflow", "jax")), "keras.src.dtype_policies.",
)  # fmt: skip
"""Where classes of `CLASSES` live; importing any module below acts on nothing."""
_TF_FUNCTIONS = ("math.", "nn.", "__operators__.", "linalg.", "image.resize", "strings.")
_TF_NAMES = """
reshape concat cast expand_dims squeeze transpose stack unstack split tile identity where clip_by_value shape ones_like zeros_like gather
broadcast_to pad range one_hot zeros ones fill slice strided_slice convert_to_tensor compat.v1.shape compat.v1.transpose
"""
_TF_PLAIN = frozenset(_TF_NAMES.split())
_NAMED_FUNCTIONS = ("activation", "activation_fn", "recurrent_activation", "loss", "loss_fn")


def check(config: Any, rule: str) -> tuple[Reason, ...]:
    """What speaks against a configuration; `rule` is the format's name."""
    found = []
    for path, value in every(config):
        if isinstance(value, dict):
            for why in _object(value):
                found.append(Reason(rule=f"{rule}:{why[0]}", where=f"config `{shown(path or '.')}`", why=why[1], remedy=REMEDY))
        if len(found) >= MAX_REASONS:
            break
    return tuple(found[:MAX_REASONS])


def _object(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "class_name" in value:
        yield from _class(value)
    elif "registered_name" in value or ("module" in value and "config" in value):
        yield "class", "it names a module without a class, which only a loader's special case understands"
    vocabulary = value.get("vocabulary")
    if isinstance(vocabulary, str) or isinstance(value.get("vocabulary_file"), str):
        yield "vocabulary-path", "its vocabulary is a path, which is opened or fetched when the model is loaded"
    for key in _NAMED_FUNCTIONS:
        name = value.get(key)
        if isinstance(name, str) and not name.isidentifier():
            yield "function", f"`{shown(name)}` is no plain name of an activation or loss"


def _class(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    name, module, registered = value["class_name"], value.get("module"), value.get("registered_name")
    if not isinstance(name, str):
        yield "class", "its class has no name"
        return
    if not isinstance(module, str | None):
        yield "module", "its module has no name"
        return
    if name in {"Lambda", "__lambda__"}:
        yield "lambda", "it holds code as a Lambda layer, which runs when the model is loaded or used"
        return
    if name == "TFOpLambda":
        yield from _tf_function(value)
        return
    plain = name.rpartition(">")[2]
    package = name.rpartition(">")[0] or (registered.rpartition(">")[0] if isinstance(registered, str) else "")
    if name == "function":
        yield from _function(value)
    elif module in _OPERATIONS:
        if not name.isidentifier() or not name[0].isupper():
            yield "class", f"`{shown(name)}` is no operation of Keras"
    elif plain not in CLASSES | FUNCTIONS | _VALUES | {"SlicingOpLambda"}:
        yield "class", f"`{shown(name)}` is no class of Keras that only computes: loading the model would need, or run, code from elsewhere"
    if module is not None and module not in _MODULES | _OPERATIONS and not module.startswith(_INNER):
        yield "module", f"`{shown(module)}` would be imported, and is no module of Keras that holds layers and their parts"
    if package not in ("", "keras", "Keras", "Custom") or (package == "Custom" and plain not in FUNCTIONS | _OPTIMIZERS):
        yield "custom-object", f"`{shown(package)}` is a package of somebody's own that the loader must have registered"


def _function(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    config = value.get("config")
    name = config if isinstance(config, str) else config.get("name") if isinstance(config, dict) else None
    if not isinstance(name, str) or name not in FUNCTIONS:
        yield "function", f"`{shown(str(name))}` is no activation, loss or metric of Keras"


def _tf_function(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    config = value.get("config")
    name = config.get("function") if isinstance(config, dict) else None
    if not isinstance(name, str) or not (name.startswith(_TF_FUNCTIONS) or name in _TF_PLAIN):
        yield "function", f"`{shown(str(name))}` is looked up in TensorFlow and called, and is none that only computes"
