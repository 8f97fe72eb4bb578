"""TensorFlow's `saved_model.load` under the guard: the folder is one artifact, and the variables are those that were asked about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_control import Control
from guard_running import guarded, make, tree

TENSORFLOW = os.environ.get("VOUCHGATE_TENSORFLOW", "")
PYTHON = str(Path(TENSORFLOW, "bin", "python"))
pytestmark = pytest.mark.skipif(not TENSORFLOW, reason="TensorFlow is not installed: `make test-tensorflow` does it under build/")
MODEL = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self, value, words):
        super().__init__()
        self.weight = tf.Variable([value] * 512)
        self.words = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(words, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER), -1)

    @tf.function(input_signature=[tf.TensorSpec([512], tf.float32)])
    def __call__(self, x):
        return x * self.weight

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def look(self, word):
        return self.words.lookup(word)

where, value = sys.argv[1], float(sys.argv[2])
with open(where + ".txt", "w") as file:
    file.write("zero\\none\\n")
model = Model(value, where + ".txt")
tf.saved_model.save(model, where, signatures=model.__call__)
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(tmp_path / "api.sock")
    yield made
    made.close()


def test_a_saved_model_is_loaded_as_a_whole_or_not_at_all(control: Control, tmp_path: Path) -> None:
    good, evil = tmp_path / "good", tmp_path / "evil"
    for where, value in ((good, 2), (evil, 3)):
        make(MODEL, where, value, python=PYTHON)
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import gc, shutil, tensorflow as tf
        ones = tf.ones([512])
        start = descriptors()
        model = tf.saved_model.load(good)
        assert float(model(ones)[0]) == 2
        assert int(model.look(tf.constant("one"))) == 1
        refused(lambda: tf.saved_model.load(evil), "evil")
        refused(lambda: tf.compat.v2.saved_model.load(Path(evil)), "evil")
        data = next(Path(good, "variables").glob("*.data-*"))
        kept = data.read_bytes()
        shutil.copy(next(Path(evil, "variables").glob("*.data-*")), data)
        assert float(model(ones)[0]) == 2
        refused(lambda: tf.saved_model.load(good))
        data.write_bytes(kept)
        assert float(tf.saved_model.load(good, tags=["serve"])(ones)[0]) == 2
        Path(good, "assets.extra").mkdir()
        Path(good, "assets.extra", "x").write_text("")
        refused(lambda: tf.saved_model.load(good))
        shutil.rmtree(Path(good, "assets.extra"))
        held = descriptors()
        del model
        gc.collect()
        assert descriptors() < held, os.listdir("/proc/self/fd")
        """,
        good,
        evil,
        python=PYTHON,
        TF_CPP_MIN_LOG_LEVEL="3",
        CUDA_VISIBLE_DEVICES="",
    )
    assert {one["library"] for one in control.asked} == {"tensorflow"}


def test_the_loader_of_tensorflow_1_is_guarded(control: Control, tmp_path: Path) -> None:
    good, evil = tmp_path / "good", tmp_path / "evil"
    for where, value in ((good, 2), (evil, 3)):
        make(MODEL, where, value, python=PYTHON)
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import tensorflow as tf

        def run(where):
            with tf.compat.v1.Session(graph=tf.Graph()) as session:
                graph = tf.compat.v1.saved_model.load(session, ["serve"], where)
                told = graph.signature_def["serving_default"]
                (given,), (made,) = told.inputs.values(), told.outputs.values()
                return float(session.run(made.name, {given.name: [1.0] * 512})[0])

        assert run(good) == 2
        refused(lambda: run(evil))
        """,
        good,
        evil,
        python=PYTHON,
        TF_CPP_MIN_LOG_LEVEL="3",
        CUDA_VISIBLE_DEVICES="",
    )


def test_keras_serves_a_saved_model_as_a_layer_only_where_it_was_admitted(control: Control, tmp_path: Path) -> None:
    good, evil = tmp_path / "good", tmp_path / "evil"
    for where, value in ((good, 2), (evil, 3)):
        make(MODEL, where, value, python=PYTHON)
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import keras, tensorflow as tf
        ones = tf.ones([512])
        layer = keras.layers.TFSMLayer(good, call_endpoint="serving_default")
        assert float(next(iter(layer(ones).values()))[0]) == 2
        refused(lambda: keras.layers.TFSMLayer(evil, call_endpoint="serving_default"))
        """,
        good,
        evil,
        python=PYTHON,
        TF_CPP_MIN_LOG_LEVEL="3",
        CUDA_VISIBLE_DEVICES="",
    )
