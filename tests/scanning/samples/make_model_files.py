"""Writes `arrays-*.h5`, `saved_model/`, `checkpoint/`, `checkpoint.npz` and `pieces.model`: `python make_model_files.py` with h5py 3.14, tensorflow 2.21 and sentencepiece 0.2."""

from __future__ import annotations

import random
import shutil
import tempfile
from contextlib import chdir
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHAPE, CHUNK = (12, 10), (5, 4)


def arrays() -> None:
    """The same numbers behind every index of chunks; filters, a fill value and links."""
    import h5py
    import numpy as np

    values = np.arange(120, dtype="<f4").reshape(SHAPE)
    for name, libver in (("earliest", "earliest"), ("latest", "latest")):
        with h5py.File(HERE / f"arrays-{name}.h5", "w", libver=libver) as file:
            file.attrs["keras_version"] = "3.15.1"
            group = file.create_group("layer")
            group.create_dataset("whole", data=values)
            group.create_dataset("single", data=values, chunks=SHAPE, compression="gzip")
            group.create_dataset("fixed", data=values, chunks=CHUNK)
            group.create_dataset("filtered", data=values, chunks=CHUNK, compression="gzip", shuffle=True, fletcher32=True)
            group.create_dataset("paged", data=np.resize(values, (2400,)), chunks=(2,))
            group.create_dataset("tree", data=values, chunks=CHUNK, maxshape=(None, None))
            group.create_dataset("tree_filtered", data=values, chunks=CHUNK, maxshape=(None, None), compression="gzip")
            group.create_dataset("filled", shape=SHAPE, dtype="<f4", chunks=CHUNK, fillvalue=1.5)
            file["alias"] = h5py.SoftLink("/layer/whole")
            file["again"] = group["whole"]
    with h5py.File(HERE / "arrays-elsewhere.h5", "w") as file:
        file.attrs["keras_version"] = "3.15.1"
        file["away"] = h5py.ExternalLink("other.h5", "/x")


def saved_model() -> None:
    """A module with variables, a vocabulary in a file, one in memory, and a table that the checkpoint fills."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        vocabulary = Path("vocabulary.txt")
        vocabulary.write_text("a\nb\nc\n")
        lines = tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        module = tf.Module()
        module.table = tf.lookup.StaticHashTable(lines, -1)
        module.weights = tf.Variable(tf.reshape(tf.range(12.0), (3, 4)))
        module.half = tf.Variable(tf.ones([4], tf.bfloat16))
        module.words = tf.Variable(["a", "bc", ""])
        module.look = tf.function(module.table.lookup, input_signature=[tf.TensorSpec([None], tf.string)])
        shutil.rmtree(HERE / "saved_model", ignore_errors=True)
        tf.saved_model.save(module, str(HERE / "saved_model"))


def checkpoint() -> None:
    """A checkpoint of every type in two shards, one variable in slices; beside it what TensorFlow itself reads of it."""
    import numpy as np
    import tensorflow as tf

    types = ["float32", "float64", "int32", "uint8", "int16", "int8", "complex64", "int64", "bool", "uint16", "complex128", "float16", "uint32", "uint64",
             "bfloat16", "float8_e5m2", "float8_e4m3fn", "string"]  # fmt: skip
    names = [f"kinds/{one}" for one in types] + ["cut/kernel", "cut/kernel", "none", "scalar"]
    values = [tf.cast(tf.reshape(tf.range(6.0), (2, 3)), one) if one != "string" else tf.constant(["ä", b"\xff", ""]) for one in types]
    values += [tf.reshape(tf.range(4.0), (2, 2)), tf.reshape(tf.range(200.0), (100, 2)), tf.zeros((0, 3)), tf.constant(5.0)]
    slices = ["" for _ in types] + ["102 2 0,2:-", "102 2 2,100:-", "", ""]
    folder = HERE / "checkpoint"
    shutil.rmtree(folder, ignore_errors=True)
    for number, part in enumerate((slice(0, 19), slice(19, None))):
        tf.raw_ops.SaveV2(
            prefix=str(folder / f"part{number}"), tensor_names=names[part], shape_and_slices=slices[part], tensors=values[part]
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(folder / "part0"), str(folder / "part1")], destination_prefix=str(folder / "model"), delete_old_dirs=False
    )
    reader = tf.train.load_checkpoint(str(folder / "model"))
    read = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if not name.endswith("string")}
    width = {1: np.uint8, 2: np.uint16}  # numpy's archive has no name for TensorFlow's short floats: their bits stand there
    np.savez_compressed(HERE / "checkpoint.npz", **{k: v if v.dtype.isbuiltin == 1 else v.view(width[v.itemsize]) for k, v in read.items()})


def pieces() -> None:
    """A small unigram model without a map of characters, which alone has 240 kB; the trainer keeps the path that it is given, so that is a bare name."""
    import sentencepiece

    chosen = random.Random(1)
    words = ["".join(chosen.choices("abcdefgh", k=chosen.randint(2, 6))) for _ in range(100)]
    sentences = (" ".join(chosen.choices(words, k=8)) for _ in range(200))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=sentences, model_prefix="pieces", vocab_size=60, normalization_rule_name="identity", minloglevel=2
        )
        shutil.copyfile("pieces.model", HERE / "pieces.model")


if __name__ == "__main__":
    arrays()
    saved_model()
    checkpoint()
    pieces()
