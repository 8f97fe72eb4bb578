"""A repository's files: what is data or a model must be clean whatever it is called, code is left to review, and what was not looked at never passes."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from vouchgate.edges.cli.main import main

ROOT = Path(__file__).parents[2]
CLEAN = pickle.dumps({"weights": [1.0, 2.0], "name": "digits"})
ACTS = b"cos\nsystem\n(S'true'\ntR."
CODE = "import os\nos.system('true')\n"
GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c"}
GIT |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)
    git("init", "-q", ".")
    (folder / "train.py").write_text(CODE)
    (folder / "README.md").write_text("# a model\n")
    (folder / "__init__.py").write_bytes(b"")
    (folder / "run.sh").write_text("#!/bin/sh\ntrue\n")
    (folder / "model.pkl").write_bytes(CLEAN)
    git("add", "-A")
    return folder


def git(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=check)


def gate(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["gate", "files", "--json", *words])
    told = capsys.readouterr()
    return code, json.loads(told.out or "{}")


def test_code_is_left_to_review_and_clean_models_pass(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [path.name for path in repository.iterdir() if path.is_file()]
    assert gate(capsys, *names) == (0, {"passed": True, "counts": {"code": 4, "clean": 1}, "stopped": []})
    code, said = gate(capsys, "--code", *names)
    assert code == 1
    assert "./train.py" in said["stopped"]


@pytest.mark.parametrize(
    "name", ["model.pkl", "notes.txt", "train.py", "picture.png", "no suffix", "-rf", "--sarif=x", "s3:x", "ümlaut\n::error::x"]
)
def test_a_model_that_acts_does_not_pass_whatever_it_is_called(repository: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (repository / name).write_bytes(ACTS)
    git("add", "-A")
    (repository.parent / "list").write_bytes(subprocess.run(["git", "ls-files", "-z"], capture_output=True, check=True).stdout)
    for words in (("--", name), ("--from0", str(repository.parent / "list"))):
        code, said = gate(capsys, *words)
        assert (code, said["stopped"]) == (1, [f"./{name}"]), words


def test_what_only_stands_for_content_does_not_pass(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for first in ("git-lfs.github.com", "hawser.github.com"):
        text = f"version https://{first}/spec/v1\noid sha256:{'a' * 64}\nsize 4096\n"
        (repository / "model.safetensors").write_text(text)
        assert gate(capsys, "model.safetensors")[0] == 1
    (repository / "notes.md").write_text("see version https://git-lfs.github.com/spec/v1\n")
    assert gate(capsys, "notes.md")[0] == 0


def test_nothing_named_is_no_pass(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository.parent / "list").write_bytes(b"")
    assert main(["gate", "files"]) != 0
    assert main(["gate", "files", "--from0", str(repository.parent / "list")]) != 0
    (repository.parent / "list").write_bytes(b"model.pkl\0train")
    assert main(["gate", "files", "--from0", str(repository.parent / "list")]) == 2
    assert main(["gate", "files", "gone.pkl"]) != 0
    assert main(["gate", "files", "--allow", "x", "model.pkl"]) == 2
    capsys.readouterr()


def test_what_does_not_pass_is_told_as_sarif(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "bad.pkl").write_bytes(ACTS)
    assert gate(capsys, "--sarif", "found.sarif", "bad.pkl", "model.pkl", "run.sh")[0] == 1
    (run,) = json.loads((repository / "found.sarif").read_text())["runs"]
    assert {one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in run["results"]} == {"bad.pkl"}
    assert main(["gate", "files", "--sarif", "/none/found.sarif", "bad.pkl"]) == 2
    capsys.readouterr()


# -- the action


class Action:
    """Runs the action's `run` steps as a runner does: expressions only in `env`, one bash each, outputs and summary by files."""

    def __init__(self, folder: Path) -> None:
        self.text = (ROOT / "actions" / "scan" / "action.yml").read_text()
        self.action = yaml.safe_load(self.text)
        self.folder, self.temp = folder, folder.parent / "temp"
        self.temp.mkdir()
        self.said, self.outputs, self.summary = "", "", ""

    def run(self, **inputs: str) -> int:
        given = {name: one["default"] for name, one in self.action["inputs"].items()} | {
            "executable": str(Path(sys.executable).parent / "vouchgate")
        }
        given |= inputs
        for step in self.action["runs"]["steps"]:
            if step.get("if") == "inputs.executable == ''" and given["executable"]:
                continue
            told = {name: self._value(text, given) for name, text in step.get("env", {}).items()}
            code = self._step(step, told)
            if code:
                return code
        return 0

    def _value(self, text: str, given: dict[str, str]) -> str:
        for name, value in given.items():
            if text == f"${{{{ inputs.{name} }}}}":
                return value
        assert "${{" not in text, text
        return text

    def _step(self, step: dict[str, Any], told: dict[str, str]) -> int:
        assert step["shell"] == "bash"
        script = self.temp / "step.sh"
        script.write_text(step["run"])
        files = {name: str(self.temp / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.temp), "RUNNER_TEMP": str(self.temp)} | GIT | files | told
        environment["GITHUB_ACTION_PATH"] = str(ROOT / "actions" / "scan")
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.said += done.stdout + done.stderr
        self.outputs, self.summary = (Path(path).read_text() if Path(path).exists() else "" for path in files.values())
        return done.returncode


def test_the_action_passes_a_clean_repository(repository: Path) -> None:
    action = Action(repository)
    assert action.run() == 0, action.said
    assert "5 files" in action.summary
    assert action.outputs == "sarif=vouchgate.sarif\n"
    assert json.loads((repository / "vouchgate.sarif").read_text())["runs"][0]["results"] == []


def test_the_action_fails_where_one_file_does_not_pass(repository: Path) -> None:
    (repository / "notes.txt").write_bytes(ACTS)
    git("add", "-A")
    action = Action(repository)
    assert action.run(sarif="out.sarif") == 1
    assert "::error title=vouchgate::" in action.said
    assert action.outputs == "sarif=out.sarif\n"
    assert json.loads((repository / "out.sarif").read_text())["runs"][0]["results"]
    assert Action.run(action, paths="README.md\n\nmodel.pkl") == 0


@pytest.mark.parametrize(
    "inputs",
    [
        {"paths": "$(touch canary)"},
        {"paths": "x; touch canary"},
        {"sarif": "$(touch canary).sarif", "paths": "gone"},
        {"sarif": "a\nsarif=forged"},
        {"sarif": ""},
        {"executable": "/bin/false"},
        {"executable": "/none/vouchgate"},
        {"paths": "gone.pkl"},
    ],
)
def test_the_action_fails_closed_and_runs_nothing_of_its_inputs(repository: Path, inputs: dict[str, str]) -> None:
    action = Action(repository)
    assert action.run(**inputs) != 0
    assert not (repository / "canary").exists()
    assert "forged" not in action.outputs


def test_the_action_fails_where_git_tracks_nothing(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    assert Action(repository).run() != 0


def test_names_of_files_are_no_commands_to_the_runner(repository: Path) -> None:
    (repository / "a\n::add-mask::secret\n.pkl").write_bytes(ACTS)
    git("add", "-A")
    action = Action(repository)
    assert action.run() == 1
    lines = action.said.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("::stop-commands::"))
    end = lines.index(f"::{lines[begin].removeprefix('::stop-commands::')}::")
    assert not [line for line in lines[:begin] + lines[end + 1 :] if line.startswith("::add-mask")]


def test_the_action_uses_nobody_elses_and_no_expression_stands_in_a_script() -> None:
    action = yaml.safe_load((ROOT / "actions" / "scan" / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    for step in action["runs"]["steps"]:
        assert "uses" not in step
        assert "${{" not in step["run"]
        assert "set -euo pipefail" in step["run"]


# -- the commit hook


def _pre_commit(repository: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(repository.parent)} | GIT
    environment["PRE_COMMIT_HOME"] = str(repository.parent / "pre-commit")
    command = [sys.executable, "-m", "pre_commit", *words]
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


def test_pre_commit_takes_the_hooks_manifest() -> None:
    clientlib = pytest.importorskip("pre_commit.clientlib", reason="pre-commit is not installed: pip install 'vouchgate[test]'")
    (hook,) = clientlib.load_manifest(str(ROOT / ".pre-commit-hooks.yaml"))
    assert (hook["entry"], hook["language"], hook["pass_filenames"], hook["files"], hook["types"]) == (
        "vouchgate gate files", "python", True, "", ["file"],
    )  # fmt: skip
    assert hook["args"][-1] == "--"


def test_a_commit_of_a_model_that_acts_is_stopped_by_pre_commit(repository: Path) -> None:
    """The hook as its manifest has it; only where the program comes from differs: the one that is installed here."""
    pytest.importorskip("pre_commit", reason="pre-commit is not installed: pip install 'vouchgate[test]'")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    local = {key: value for key, value in hook.items() if key not in ("additional_dependencies", "minimum_pre_commit_version")}
    config = {"repos": [{"repo": "local", "hooks": [local | {"language": "system"}]}]}
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    git("add", "-A")
    done = _pre_commit(repository, "run", "--all-files")
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("fine.txt", "-oddly named.bin"):
        (repository / name).write_bytes(ACTS)
    git("add", "-A")
    done = _pre_commit(repository, "run")
    assert done.returncode == 1
    for name in ("fine.txt", "-oddly named.bin"):
        assert name in done.stdout
    assert "os.system" in done.stdout


def test_an_archive_is_looked_into(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("weights.bin")
        member.size = len(ACTS)
        tar.addfile(member, io.BytesIO(ACTS))
    (repository / "data").write_bytes(packed.getvalue())
    assert gate(capsys, "data")[0] == 1
