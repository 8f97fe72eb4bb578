"""MLflow's own `load_model` under the guard: the model's folder is one artifact, and what is loaded is what was asked about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from guard_control import Control
from guard_running import digest, guarded, make, tree

PACKS = os.environ.get("VOUCHGATE_PACKS", "")
PYTHON = str(Path(PACKS, "bin", "python"))
pytestmark = pytest.mark.skipif(not PACKS, reason="MLflow is not installed: `make test-packs` does it under build/")
MODEL = """
import sys, mlflow, numpy
from sklearn.linear_model import LinearRegression

class Adds(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        from pathlib import Path
        return int(Path(context.artifacts["number"]).read_text()) + len(model_input)

kind, where, slope = sys.argv[1], sys.argv[2], float(sys.argv[3])
if kind == "sklearn":
    x = numpy.arange(4.0).reshape(-1, 1)
    mlflow.sklearn.save_model(LinearRegression().fit(x, x[:, 0] * slope), where, serialization_format="cloudpickle")
else:
    with open(where + ".txt", "w") as file:
        file.write(str(int(slope)))
    mlflow.pyfunc.save_model(where, python_model=Adds(), artifacts={"number": where + ".txt"})
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Control]:
    made = Control(tmp_path / "api.sock")
    yield made
    made.close()


def test_a_flavour_s_model_is_loaded_as_a_whole_or_not_at_all(control: Control, tmp_path: Path) -> None:
    good, evil = tmp_path / "good", tmp_path / "evil"
    for where, slope in ((good, 2), (evil, 3)):
        make(MODEL, "sklearn", where, slope, python=PYTHON)
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import mlflow, numpy, shutil
        one = numpy.array([[1.0]])
        model = mlflow.sklearn.load_model(good)
        assert round(float(model.predict(one)[0]), 6) == 2
        start = descriptors()
        for again in range(3):
            assert round(float(mlflow.pyfunc.load_model(good).predict(one)[0]), 6) == 2
        assert descriptors() <= start + 1, "the same content is held once"
        for call in (mlflow.sklearn.load_model, mlflow.pyfunc.load_model):
            refused(lambda: call(evil), "evil")
        # another model's file in the admitted folder, one file more, and one less
        kept = Path(good, "model.pkl").read_bytes()
        shutil.copy(Path(evil, "model.pkl"), Path(good, "model.pkl"))
        refused(lambda: mlflow.sklearn.load_model(good))
        Path(good, "model.pkl").write_bytes(kept)
        assert round(float(mlflow.sklearn.load_model("file://" + good).predict(one)[0]), 6) == 2
        Path(good, "more.py").write_text("raise SystemExit(3)")
        refused(lambda: mlflow.pyfunc.load_model(good))
        Path(good, "more.py").unlink()
        Path(good, "requirements.txt").unlink()
        refused(lambda: mlflow.pyfunc.load_model(good))
        # a folder that is no model is no artifact to MLflow's loaders either
        Path(good, "MLmodel").unlink()
        try:
            mlflow.pyfunc.load_model(good)
            raise AssertionError("it was loaded")
        except mlflow.exceptions.MlflowException as error:
            assert "MLmodel" in str(error)
        """,
        good,
        evil,
        python=PYTHON,
    )
    assert {one["library"] for one in control.asked} == {"mlflow"}


def test_what_a_model_reads_later_is_what_was_verified(control: Control, tmp_path: Path) -> None:
    good = tmp_path / "good"
    make(MODEL, "pyfunc", good, 40, python=PYTHON)
    control.allowed = {tree(good)}
    guarded(
        control,
        """
        import mlflow
        model = mlflow.pyfunc.load_model(good)
        (number,) = Path(good, "artifacts").iterdir()
        number.write_text("1")
        assert model.predict([1, 2]) == 42
        number.unlink()
        number.symlink_to("/etc/hostname")
        assert model.predict([1, 2]) == 42
        refused(lambda: mlflow.pyfunc.load_model(good))
        """,
        good,
        "-",
        python=PYTHON,
    )


def test_what_is_no_model_s_folder_is_asked_about_file_by_file(control: Control, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    make("import pickle, sys, os\nos.mkdir(sys.argv[1])\npickle.dump([1], open(sys.argv[1] + '/a.pkl', 'wb'))", plain, python=PYTHON)
    control.allowed = {digest(plain / "a.pkl")}
    guarded(
        control,
        """
        import mlflow, pickle
        from mlflow.artifacts import download_artifacts
        place = Path(download_artifacts(artifact_uri=good))
        with open(place / "a.pkl", "rb") as file:
            assert pickle.load(file) == [1]
        (place / "a.pkl").write_bytes(pickle.dumps([2]))
        with open(place / "a.pkl", "rb") as file:
            refused(lambda: pickle.load(file))
        """,
        plain,
        "-",
        python=PYTHON,
    )
