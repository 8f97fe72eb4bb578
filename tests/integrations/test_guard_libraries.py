"""The real libraries under the guard, each in a process of its own: what was admitted loads, everything else does not, whatever is swapped."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_control import Control
from guard_running import digest, guarded, make, needs, tree


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(tmp_path / "api.sock")
    yield made
    made.close()


def test_safetensors(control: Control, tmp_path: Path) -> None:
    needs("safetensors", "numpy")
    good, evil = tmp_path / "good.safetensors", tmp_path / "evil.safetensors"
    make(
        """
        import sys, numpy
        from safetensors.numpy import save_file
        save_file({"w": numpy.arange(6.0)}, sys.argv[1])
        save_file({"w": numpy.zeros(6)}, sys.argv[2])
        """,
        good,
        evil,
    )
    control.allowed = {digest(good)}
    guarded(
        control,
        """
        import numpy
        from safetensors import safe_open
        from safetensors.numpy import load_file
        assert load_file(good)["w"].tolist() == [0, 1, 2, 3, 4, 5]
        refused(lambda: load_file(evil), "evil.safetensors")
        with safe_open(good, framework="np") as file:
            os.rename(evil, good)
            assert file.get_tensor("w").tolist() == [0, 1, 2, 3, 4, 5]
        refused(lambda: load_file(good))
        """,
        good,
        evil,
    )
    assert {one["library"] for one in control.asked} == {"safetensors"}


def test_pickle(control: Control, tmp_path: Path) -> None:
    good, evil = tmp_path / "good.pkl", tmp_path / "evil.pkl"
    make(
        """
        import pickle, sys
        class Acts:
            def __reduce__(self):
                return open, (sys.argv[2] + ".canary", "w")
        with open(sys.argv[1], "wb") as file:
            pickle.dump([1, 2], file)
            pickle.dump("second", file)
        with open(sys.argv[2], "wb") as file:
            pickle.dump(Acts(), file)
        """,
        good,
        evil,
    )
    control.allowed = {digest(good), "sha256:" + hashlib.sha256(b"\x80\x04K\x07.").hexdigest()}
    guarded(
        control,
        """
        import pickle, multiprocessing, gzip
        with open(good, "rb") as file:
            before = Path(evil).read_bytes()
            assert pickle.load(file) == [1, 2]
            assert pickle.load(file) == "second"
            assert file.tell() == os.path.getsize(good)
        with open(evil, "rb") as file:
            refused(lambda: pickle.load(file))
        refused(lambda: pickle.load(io.BytesIO(before)), "bytes in memory")
        assert pickle.load(io.BytesIO(b"\\x80\\x04K\\x07.")) == 7
        reading, writing = os.pipe()
        os.write(writing, before); os.close(writing)
        refused(lambda: pickle.load(os.fdopen(reading, "rb")))

        class Lying(io.BytesIO):
            "shows the guard one thing and the library another"
            def fileno(self):
                return os.open(good, os.O_RDONLY)
        refused(lambda: pickle.load(Lying(before)))

        class Twice(io.RawIOBase):
            "gives other bytes the second time"
            times = 0
            def readable(self): return True
            def seekable(self): return False
            def read(self, size=-1):
                self.times += 1
                return b"\\x80\\x04K\\x07." if self.times == 1 else before
            readinto = readline = None
        assert pickle.load(Twice()) == 7
        assert not os.path.exists(evil + ".canary")

        # a million loads by the same way: a descriptor that leaks shows after a few thousand
        start = descriptors()
        for _ in range(2_000):
            with open(good, "rb") as file:
                pickle.load(file)
        assert descriptors() == start
        """,
        good,
        evil,
    )
    assert len(control.asked) < 100, "an allow is held for its time"


def test_children_that_multiprocessing_spawns_start_under_the_guard(control: Control, tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(
        textwrap.dedent(
            """
            import multiprocessing, pickle, sys
            def work(path):
                try:
                    with open(path, "rb") as file:
                        return pickle.load(file)
                except Exception as error:
                    return type(error).__name__
            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    print(pool.apply(work, (sys.argv[1],)), pool.apply(work, (sys.argv[2],)))
            """
        )
    )
    good, evil = tmp_path / "good.pkl", tmp_path / "evil.pkl"
    good.write_bytes(b"\x80\x04K\x07.")
    evil.write_bytes(b"\x80\x04K\x08.")
    control.allowed = {digest(good)}
    from vouchgate.integrations import guard_site

    site = str(Path(guard_site.__file__).parent)
    done = subprocess.run(
        [sys.executable, str(script), str(good), str(evil)],
        env={
            **os.environ,
            "VOUCHGATE_GUARD_SOCKET": str(control.path),
            "PYTHONPATH": os.pathsep.join([site, *filter(None, sys.path)]),
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.split() == ["7", "LoadRefused"], done.stderr


def test_joblib(control: Control, tmp_path: Path) -> None:
    needs("joblib", "numpy")
    good, evil = tmp_path / "good.joblib", tmp_path / "evil.joblib"
    make(
        """
        import joblib, numpy, sys
        class Acts:
            def __reduce__(self):
                return open, (sys.argv[2] + ".canary", "w")
        joblib.dump({"a": numpy.arange(4)}, sys.argv[1])
        joblib.dump([numpy.arange(4), Acts()], sys.argv[2])
        """,
        good,
        evil,
    )
    control.allowed = {digest(good)}
    guarded(
        control,
        """
        import joblib
        assert joblib.load(good)["a"].tolist() == [0, 1, 2, 3]
        with open(good, "rb") as file:
            assert joblib.load(file)["a"].tolist() == [0, 1, 2, 3]
        mapped = joblib.load(good, mmap_mode="r")
        with open(good, "r+b") as file:
            file.write(b"evil" * 10)
        assert mapped["a"].tolist() == [0, 1, 2, 3]
        refused(lambda: joblib.load(good))
        refused(lambda: joblib.load(evil))
        assert not os.path.exists(evil + ".canary")
        """,
        good,
        evil,
    )


def test_onnxruntime(control: Control, tmp_path: Path) -> None:
    needs("onnxruntime", "onnx")
    good, evil, beside = tmp_path / "good.onnx", tmp_path / "evil.onnx", tmp_path / "apart" / "beside.onnx"
    beside.parent.mkdir()
    make(
        """
        import onnx, os, struct, sys
        from onnx import helper, TensorProto
        os.chdir(os.path.dirname(sys.argv[1]))
        def model(value, path, outside=False):
            weight = helper.make_tensor("w", TensorProto.FLOAT, [256], struct.pack("256f", *[value] * 256), raw=True)
            graph = helper.make_graph(
                [helper.make_node("Add", ["x", "w"], ["y"])], "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, [256])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, [256])], [weight])
            made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
            onnx.save(made, path, save_as_external_data=outside, location="weights.bin", size_threshold=0)
        model(1.0, sys.argv[1]); model(2.0, sys.argv[2]); model(3.0, sys.argv[3], True)
        """,
        good,
        evil,
        beside,
    )
    control.allowed = {digest(good), digest(beside)}
    guarded(
        control,
        """
        import onnxruntime, gc
        import numpy
        zeros = {"x": numpy.zeros(256, "float32")}
        data = Path(good).read_bytes()
        start = descriptors()
        session = onnxruntime.InferenceSession(good, providers=["CPUExecutionProvider"])
        os.rename(evil, good)
        assert session.run(None, zeros)[0][0] == 1
        session.set_providers(["CPUExecutionProvider"])
        assert session.run(None, zeros)[0][0] == 1
        refused(lambda: onnxruntime.InferenceSession(good))
        refused(lambda: onnxruntime.InferenceSession(Path(good).read_bytes()))
        assert onnxruntime.InferenceSession(data).run(None, zeros)[0][0] == 1
        # its weights lie beside it and were not admitted with it: neither there nor in the working directory are they taken
        os.chdir(os.path.dirname(sys.argv[3]))
        refused(lambda: onnxruntime.InferenceSession(sys.argv[3]))
        try:
            onnxruntime.InferenceSession(Path(sys.argv[3]).read_bytes())
            raise SystemExit("weights that were not verified were loaded")
        except Exception as error:
            assert "weights.bin" in str(error) or "canonical path" in str(error), error
        del session
        gc.collect()
        assert descriptors() <= start + 1, os.listdir("/proc/self/fd")
        """,
        good,
        evil,
        beside,
    )


def test_onnxruntime_with_tensors_in_files_beside_the_model(control: Control, tmp_path: Path) -> None:
    needs("onnxruntime", "onnx")
    good = tmp_path / "good"
    (good / "deep").mkdir(parents=True)
    make(
        """
        import onnx, os, struct, sys
        from onnx import helper, TensorProto
        os.chdir(sys.argv[1])
        weight = helper.make_tensor("w", TensorProto.FLOAT, [256], struct.pack("256f", *[3.0] * 256), raw=True)
        graph = helper.make_graph(
            [helper.make_node("Add", ["x", "w"], ["y"])], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [256])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [256])], [weight])
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(made, "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
        """,
        good,
    )
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import onnxruntime, gc, numpy
        zeros = {"x": numpy.zeros(256, "float32")}
        start = descriptors()
        model, weights = Path(good, "model.onnx"), Path(good, "weights.bin")
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        assert session.run(None, zeros)[0][0] == 3
        options = onnxruntime.SessionOptions()
        assert onnxruntime.InferenceSession(model, options).run(None, zeros)[0][0] == 3
        try:
            onnxruntime.InferenceSession(model, options)
            raise SystemExit("options that hold another model's files were taken")
        except Exception as error:
            assert "make SessionOptions for each session anew" in getattr(error, "remedy", ""), error
        os.chdir(good)
        assert onnxruntime.InferenceSession("model.onnx").run(None, zeros)[0][0] == 3
        # in place, and by another file under the name: the session has what was verified, and reads it again
        other = numpy.full(256, 4, "float32").tobytes()
        weights.write_bytes(other)
        assert session.run(None, zeros)[0][0] == 3
        session.set_providers(["CPUExecutionProvider"])
        assert session.run(None, zeros)[0][0] == 3
        refused(lambda: onnxruntime.InferenceSession(str(model)))
        weights.unlink()
        weights.symlink_to("/dev/zero")
        try:
            onnxruntime.InferenceSession(str(model))
            raise SystemExit("loaded")
        except Exception as error:
            assert "neither a file nor a folder" in str(error) or "not a regular file" in str(error), error
        weights.unlink()
        weights.write_bytes(numpy.full(256, 3, "float32").tobytes())
        assert onnxruntime.InferenceSession(model).run(None, zeros)[0][0] == 3
        Path(good, "added").write_text("")
        refused(lambda: onnxruntime.InferenceSession(str(model)))
        del session
        gc.collect()
        assert descriptors() <= start + 1, os.listdir("/proc/self/fd")
        """,
        good,
        "-",
    )
    assert {one["digest"].split(":")[0] for one in control.asked} == {"sha256-tree"}


def test_torch(control: Control, tmp_path: Path) -> None:
    needs("torch")
    good, evil = tmp_path / "good.pt", tmp_path / "evil.pt"
    make(
        """
        import sys, torch
        class Acts:
            def __reduce__(self):
                return open, (sys.argv[2] + ".canary", "w")
        torch.save({"w": torch.arange(4.0)}, sys.argv[1])
        torch.save({"w": torch.arange(4.0), "x": Acts()}, sys.argv[2])
        """,
        good,
        evil,
    )
    control.allowed = {digest(good)}
    guarded(
        control,
        """
        import torch
        assert torch.load(good)["w"].tolist() == [0, 1, 2, 3]
        with open(good, "rb") as file:
            assert torch.load(file)["w"].tolist() == [0, 1, 2, 3]
        assert torch.load(io.BytesIO(Path(good).read_bytes()))["w"].tolist() == [0, 1, 2, 3]
        mapped = torch.load(good, mmap=True)["w"]
        os.rename(evil, good)
        assert mapped.tolist() == [0, 1, 2, 3]
        refused(lambda: torch.load(good, weights_only=False))
        refused(lambda: torch.jit.load(good))
        assert not os.path.exists(evil + ".canary")
        """,
        good,
        evil,
    )


def test_keras(control: Control, tmp_path: Path) -> None:
    needs("keras", "torch")
    good, evil, weights = tmp_path / "good.keras", tmp_path / "evil.keras", tmp_path / "some.weights.h5"
    make(
        """
        import os, sys
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.save(sys.argv[1]); model.save_weights(sys.argv[3])
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save(sys.argv[2])
        """,
        good,
        evil,
        weights,
    )
    control.allowed = {digest(good), digest(weights)}
    guarded(
        control,
        """
        os.environ["KERAS_BACKEND"] = "torch"
        import keras
        model = keras.models.load_model(good)
        assert model.input_shape == (None, 2)
        model.load_weights(sys.argv[3])
        start = descriptors()
        keras.saving.load_model(good)
        assert descriptors() == start
        os.rename(evil, good)
        refused(lambda: keras.models.load_model(good))
        refused(lambda: model.load_weights(good))
        """,
        good,
        evil,
        weights,
    )


def test_transformers(control: Control, tmp_path: Path) -> None:
    needs("transformers", "torch")
    good = tmp_path / "good"
    make(
        """
        import sys
        from transformers import BertConfig, BertModel
        BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=10)).save_pretrained(sys.argv[1])
        """,
        good,
    )
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        from transformers import AutoConfig, AutoModel, BertModel
        start = descriptors()
        assert AutoConfig.from_pretrained(good).hidden_size == 8
        model = AutoModel.from_pretrained(good)
        assert BertModel.from_pretrained(good).config.hidden_size == 8
        assert descriptors() <= start + 2, os.listdir("/proc/self/fd")
        for call in (lambda: AutoModel.from_pretrained("bert-base-uncased"), lambda: AutoModel.from_pretrained(good + "/config.json")):
            try:
                call()
                raise SystemExit("loaded")
            except Exception as error:
                assert "neither a folder nor a snapshot" in str(error), error
        Path(good, "added.py").write_text("")
        refused(lambda: AutoModel.from_pretrained(good))
        refused(lambda: AutoConfig.from_pretrained(good))
        """,
        good,
        "-",
        HF_HUB_OFFLINE="1",
    )
    assert {one["library"] for one in control.asked} == {"transformers"}
    assert {one["digest"].split(":")[0] for one in control.asked} == {"sha256-tree"}


# -- the guard itself


@pytest.mark.parametrize("answer", [b"", b"{}", b"true", b'{"allowed": true}', b"x" * 2_000_000, b'{"allowed": 1, "digest": "d"}'])
def test_an_answer_that_is_none_loads_nothing(control: Control, tmp_path: Path, answer: bytes) -> None:
    control.answer = answer
    (tmp_path / "f.pkl").write_bytes(b"N.")
    guarded(
        control,
        """
        import pickle
        try:
            with open(good, "rb") as file:
                pickle.load(file)
            raise SystemExit("loaded")
        except LoadRefused:
            pass
        """,
        tmp_path / "f.pkl",
        "-",
    )


def test_an_allow_for_other_content_allows_nothing(control: Control, tmp_path: Path) -> None:
    said = control.reply
    (tmp_path / "f.pkl").write_bytes(b"N.")
    control.allowed = {digest(tmp_path / "f.pkl")}
    control.reply = lambda path, body: {**said(path, body), "digest": "sha256:" + "0" * 64}  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match="is not loaded"):
        guarded(control, "import pickle; pickle.load(open(good, 'rb'))", tmp_path / "f.pkl", "-")


def test_without_a_control_plane_nothing_is_loaded(control: Control, tmp_path: Path) -> None:
    (tmp_path / "f.pkl").write_bytes(b"N.")
    script = """
    import pickle
    try:
        pickle.load(open(good, "rb"))
        raise SystemExit("loaded")
    except LoadRefused as error:
        assert "does not answer" in str(error), error
    """
    guarded(control, script, tmp_path / "f.pkl", "-", VOUCHGATE_GUARD_SOCKET=str(tmp_path / "absent.sock"))
    with pytest.raises(AssertionError, match="neither a control plane nor a pinned TrustRoot"):
        guarded(control, "", "-", "-", VOUCHGATE_GUARD_SOCKET="")


def test_what_is_withdrawn_is_refused_once_the_allow_is_over(control: Control, tmp_path: Path) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(b"N.")
    control.allowed, control.hold_ms = {digest(path)}, 0
    guarded(
        control,
        """
        import pickle
        for _ in range(3):
            pickle.load(open(good, "rb"))
        """,
        path,
        "-",
    )
    assert len(control.asked) == 3


def test_a_process_and_its_fork_say_what_they_serve(control: Control, tmp_path: Path) -> None:
    path = tmp_path / "f.pkl"
    path.write_bytes(b"N.")
    control.allowed = {digest(path)}
    guarded(
        control,
        """
        import pickle, time
        pickle.load(open(good, "rb"))
        if os.fork() == 0:
            time.sleep(0.3)
            os._exit(0)
        os.wait()
        """,
        path,
        "-",
        VOUCHGATE_GUARD_ENDPOINT="digits",
    )
    assert len(control.said) >= 4, "it is renewed while the process lives"
    assert {(one["endpoint"], one["digest"]) for one in control.said} == {("digits", digest(path))}


def test_a_library_without_its_way_in_cannot_be_imported(control: Control, tmp_path: Path) -> None:
    (tmp_path / "safetensors.py").write_text("other = 1\n")
    guarded(
        control,
        """
        sys.path.insert(0, good)
        try:
            import safetensors
            raise SystemExit("imported")
        except Exception as error:
            assert "has no `safe_open`" in str(error), error
        """,
        tmp_path,
        "-",
    )
