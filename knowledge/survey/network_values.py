"""Whole networks, optimisers, schedulers, scalers and checkpoints, as torch's own and other libraries' trainers keep them; no download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

TIMM = (
    "resnet18",
    "vit_tiny_patch16_224",
    "efficientnet_b0",
    "convnext_atto",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",
    "regnetx_002",
)
VISION = (
    "resnet18",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "vit_b_16",
    "densenet121",
    "squeezenet1_0",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
)
TEXT = (
    "Bert",
    "GPT2",
    "Llama",
    "T5",
    "ViT",
    "Roberta",
    "DistilBert",
    "CLIP",
    "Whisper",
    "Mistral",
    "Qwen2",
    "Electra",
    "Albert",
    "Deberta",
)
OPTIMISERS = ("SGD", "Adam", "AdamW", "Adagrad", "RMSprop", "Adadelta", "NAdam", "RAdam", "LBFGS", "Adamax", "ASGD", "Rprop")


def objects() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Each by itself."""
    yield from _torch()
    yield from _named("timm", TIMM, lambda name: _module("timm").create_model(name))
    yield from _named("torchvision", VISION, lambda name: getattr(_module("torchvision.models"), name)())
    yield from _named("transformers-model", TEXT, _small)
    yield from _trainers()


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _named(label: str, names: tuple[str, ...], make: Callable[[str], Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    for name in names:
        yield f"{label}-{name.lower()}", lambda name=name: make(name)


def _small(name: str) -> Any:
    transformers = _module("transformers")
    config = getattr(transformers, f"{name}Config")()
    for key, value in {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "vocab_size": 64,
        "n_layer": 1,
    }.items():
        if hasattr(config, key):
            setattr(config, key, value)
    return getattr(transformers, f"{name}Model")(config)


def _torch() -> Iterator[tuple[str, Callable[[], Any]]]:
    torch = _module("torch")
    layer = lambda: torch.nn.Linear(3, 2)  # noqa: E731
    for name in OPTIMISERS:
        yield f"torch-optimiser-{name.lower()}", lambda name=name: _stepped(torch, name)
    optimiser = lambda: torch.optim.SGD(layer().parameters(), lr=0.1)  # noqa: E731
    schedulers = torch.optim.lr_scheduler
    for label, make in {
        "step": lambda: schedulers.StepLR(optimiser(), 2),
        "cosine": lambda: schedulers.CosineAnnealingLR(optimiser(), 10),
        "plateau": lambda: schedulers.ReduceLROnPlateau(optimiser()),
        "onecycle": lambda: schedulers.OneCycleLR(optimiser(), 0.1, total_steps=5),
        "sequential": lambda: schedulers.SequentialLR(optimiser(), [], []),
    }.items():
        yield f"torch-scheduler-{label}", make
        yield f"torch-scheduler-{label}-state", lambda make=make: make().state_dict()
    yield "torch-scaler", lambda: torch.amp.GradScaler("cpu")
    yield "torch-scaler-state", lambda: torch.amp.GradScaler("cpu").state_dict()
    yield "torch-swa", lambda: torch.optim.swa_utils.AveragedModel(layer())
    yield "torch-hooked", lambda: _hooked(torch)
    yield "torch-weight-norm", lambda: torch.nn.utils.weight_norm(layer())
    yield "torch-spectral-norm", lambda: torch.nn.utils.spectral_norm(layer())
    yield "torch-parametrized", lambda: torch.nn.utils.parametrizations.weight_norm(layer())
    yield "torch-pruned", lambda: _module("torch.nn.utils.prune").l1_unstructured(layer(), "weight", 0.5)
    yield "torch-generator", torch.random.get_rng_state
    yield "torch-dataset", lambda: torch.utils.data.TensorDataset(torch.zeros(2, 2), torch.ones(2))
    yield "torch-loader", lambda: torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(2, 2)))
    yield "torch-subset", lambda: torch.utils.data.random_split(torch.utils.data.TensorDataset(torch.zeros(4, 2)), [2, 2])
    yield "torch-losses", lambda: [torch.nn.CrossEntropyLoss(), torch.nn.BCEWithLogitsLoss(), torch.nn.HuberLoss(), torch.nn.CTCLoss()]
    yield "torch-distributions", lambda: [torch.distributions.Normal(0.0, 1.0), torch.distributions.Categorical(torch.ones(3))]
    yield "torch-rnn", lambda: [torch.nn.LSTM(3, 2, 2), torch.nn.GRU(3, 2), torch.nn.RNN(2, 2), torch.nn.LSTMCell(2, 2)]
    yield "torch-transformer", lambda: torch.nn.Transformer(8, 2, 1, 1, 16)
    yield (
        "torch-dtypes",
        lambda: [torch.float32, torch.bfloat16, torch.device("cpu"), torch.Size([1]), torch.strided, torch.per_tensor_affine],
    )
    yield "torch-quantised", lambda: torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(layer()))


def _stepped(torch: Any, name: str) -> Any:
    layer = torch.nn.Linear(3, 2)
    made = getattr(torch.optim, name)(layer.parameters(), lr=0.1)

    def closure() -> Any:
        made.zero_grad()
        loss = layer(torch.ones(1, 3)).sum()
        loss.backward()
        return loss

    made.step(closure)
    return made


def _hooked(torch: Any) -> Any:
    layer = torch.nn.Linear(3, 2)
    layer.handle = layer.register_forward_hook(torch.nn.functional.relu)
    return layer


def _trainers() -> Iterator[tuple[str, Callable[[], Any]]]:
    yield "lightning-checkpoint", lambda: _lightning("lightning.pytorch")
    yield "pytorch-lightning-checkpoint", lambda: _lightning("pytorch_lightning")
    yield "lightning-attributes", lambda: _module("lightning.fabric.utilities.data").AttributeDict(a=1)
    yield "accelerate-state", lambda: _module("accelerate").PartialState(cpu=True)
    yield "accelerate-config", lambda: _module("accelerate").utils.DistributedType.NO
    yield "accelerate-optimizer", _accelerated
    yield "torchmetrics", lambda: [_module("torchmetrics").Accuracy(task="multiclass", num_classes=3), _module("torchmetrics").MeanMetric()]
    yield "peft-config", lambda: _module("peft").LoraConfig(r=4, target_modules=["q"])
    yield "peft-model", lambda: _module("peft").get_peft_model(_small("Bert"), _module("peft").LoraConfig(r=2, target_modules=["query"]))
    yield (
        "einops-layers",
        lambda: [_module("einops.layers.torch").Rearrange("b c -> c b"), _module("einops.layers.torch").Reduce("b c -> b", "mean")],
    )
    yield "ultralytics-model", _ultralytics
    yield "ultralytics-checkpoint", _ultralytics_checkpoint


def _accelerated() -> Any:
    torch = _module("torch")
    return _module("accelerate").Accelerator(cpu=True).prepare(torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1))


def _lightning(name: str) -> Any:
    """What `Trainer.save_checkpoint` keeps."""
    lightning, torch = _module(name), _module("torch")
    checkpoint = lightning.callbacks.ModelCheckpoint(dirpath="out")
    stopping = lightning.callbacks.EarlyStopping("loss")
    optimiser = torch.optim.Adam(torch.nn.Linear(2, 2).parameters())
    return {
        "epoch": 1,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": torch.nn.Linear(2, 2).state_dict(),
        "callbacks": {checkpoint.state_key: checkpoint.state_dict(), stopping.state_key: stopping.state_dict()},
        "optimizer_states": [optimiser.state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": _module("lightning.fabric.utilities.data").AttributeDict(lr=0.1, net=torch.nn.ReLU()),
    }


def _ultralytics() -> Any:
    return _module("ultralytics.nn.tasks").DetectionModel("yolov8n.yaml", verbose=False)


def _ultralytics_checkpoint() -> Any:
    """What its trainer saves (engine/trainer.py, `save_model`)."""
    return {
        "epoch": -1,
        "best_fitness": None,
        "model": _ultralytics().half(),
        "ema": None,
        "updates": 0,
        "optimizer": None,
        "train_args": {"task": "detect"},
    }
