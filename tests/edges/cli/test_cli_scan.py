"""`vouchgate scan` as it is run: real processes, a contract of one JSON line for each artifact, exit codes, and folders that fight back."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from safetensors.numpy import save

from vouchgate.edges.cli import main as cli
from vouchgate.vocabulary.digests import file_digest, tree_digest

GOOD = save({"w": np.arange(4, dtype=np.float32)})
BAD = b"cos\nsystem\n(S'true'\ntR."
KEYS = {"path", "digest", "format", "verdict", "reasons"}
REASON_KEYS = {"rule", "where", "member", "why", "remedy", "weight"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def scanned(capsys: pytest.CaptureFixture[str], *paths: str, code: int = 1) -> list[dict[str, Any]]:
    assert cli.main(["scan", "--json", *paths]) == code
    out = capsys.readouterr().out
    assert out.isascii()
    return [json.loads(line) for line in out.splitlines()]


def verdicts(lines: list[dict[str, Any]]) -> dict[str, str]:
    return {line["path"]: line["verdict"] for line in lines}


def test_a_clean_file_is_one_line_and_exit_0(capsys: pytest.CaptureFixture[str]) -> None:
    write({"a.pkl": GOOD})
    (line,) = scanned(capsys, "a.pkl", code=0)
    assert line.keys() >= KEYS
    assert (line["path"], line["format"], line["verdict"], line["reasons"]) == ("a.pkl", "safetensors", "clean", [])
    assert line["digest"] == f"sha256:{hashlib.sha256(GOOD).hexdigest()}"
    assert line["size"] == line["covered"] == len(GOOD)


def test_what_is_not_clean_is_exit_1_with_reasons_that_say_all(capsys: pytest.CaptureFixture[str]) -> None:
    write({"m.safetensors": BAD})
    (line,) = scanned(capsys, "m.safetensors")
    assert (line["format"], line["verdict"]) == ("pickle", "refused")
    assert all(reason.keys() == REASON_KEYS for reason in line["reasons"])
    assert line["reasons"][0]["weight"] == "refused"
    assert line["reasons"][0]["remedy"]


@pytest.mark.parametrize("argument", ["d", "d/", "./d", "."])
def test_a_folder_is_walked_and_paths_are_as_the_user_writes_them(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    write({"d/b": GOOD, "d/a/x": BAD, "d/.hidden/y": BAD, "d/c": GOOD})
    found = verdicts(scanned(capsys, argument))
    inner = "d/" if argument == "." else ""
    expected = {".hidden/y": "refused", "a/x": "refused", "b": "clean", "c": "clean"}
    assert found == {f"{argument.rstrip('/')}/{inner}{name}": verdict for name, verdict in expected.items()}
    assert list(found) == sorted(found)
    absolute = verdicts(scanned(capsys, str(Path("d").absolute())))
    assert set(absolute) == {str(Path("d").absolute() / name) for name in expected}


def test_several_arguments_in_their_order_each_with_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    write({"z": GOOD, "a": BAD})
    assert [line["path"] for line in scanned(capsys, "z", "a", "z")] == ["z", "a", "z"]


def test_thousands_of_files_each_get_exactly_their_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        f"d/{number % 7}/{number:04}": save({f"w{number}": np.zeros(1, np.int8)}) if number % 3 else BAD + b"%d" % number
        for number in range(300)
    }
    write(files)
    lines = scanned(capsys, "d")
    assert Counter(line["path"] for line in lines) == Counter(list(files))
    assert {line["path"]: line["digest"] for line in lines} == {name: file_digest(content).text for name, content in files.items()}
    assert all(
        (line["verdict"] == "clean") == (files[line["path"]] == GOOD or not files[line["path"]].startswith(b"cos")) for line in lines
    )


def test_names_that_are_no_text_or_would_repaint_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    names = [b"\xff\xfe", b"new\nline", b"\x1b[2J", b"--json", b" ", "\u202egnp.pt".encode()]
    Path("d").mkdir()
    for name in names:
        Path(os.fsdecode(b"d/" + name)).write_bytes(GOOD)
    lines = scanned(capsys, "d", code=0)
    assert {os.fsencode(line["path"]) for line in lines} == {b"d/" + name for name in names}
    assert cli.main(["scan", "--explain", "d"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_links_never_lead_out_and_what_is_no_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    write({"secret/key": GOOD, "d/a": GOOD, "d/sub/b": GOOD})
    Path("d/inside").symlink_to("sub/b")
    Path("d/out").symlink_to("../secret/key")
    Path("d/absolute").symlink_to(Path("secret/key").absolute())
    Path("d/folder").symlink_to("../secret")
    Path("d/loop").symlink_to("loop")
    Path("d/proc").symlink_to("/proc/self/root")
    Path("d/up").symlink_to(".")
    os.mkfifo("d/pipe")
    with socket.socket(socket.AF_UNIX) as held:
        held.bind("d/socket")
        lines = scanned(capsys, "d")
    found = verdicts(lines)
    assert {name for name, verdict in found.items() if verdict == "clean"} == {"d/a", "d/inside", "d/sub/b"}
    told = {"d/out", "d/absolute", "d/folder", "d/loop", "d/proc", "d/up", "d/pipe", "d/socket"}
    assert {name for name, verdict in found.items() if verdict == "incomplete"} == told
    assert all(line["reasons"][0]["why"] and line["reasons"][0]["remedy"] for line in lines if line["path"] in told)


def test_an_argument_that_is_a_link_is_what_the_user_meant(capsys: pytest.CaptureFixture[str]) -> None:
    write({"a": GOOD, "d/a": GOOD})
    Path("link").symlink_to("a")
    Path("folder").symlink_to("d")
    assert verdicts(scanned(capsys, "link", "folder", code=0)) == {"link": "clean", "folder/a": "clean"}


def test_nothing_found_is_not_clean(capsys: pytest.CaptureFixture[str]) -> None:
    Path("d/e").mkdir(parents=True)
    Path("empty").write_bytes(b"")
    assert verdicts(scanned(capsys, "d", "empty")) == {"d": "incomplete", "empty": "refused"}
    assert verdicts(scanned(capsys, "/dev/null")) == {"/dev/null": "incomplete"}


def test_a_folder_that_is_one_artifact_is_one_line_with_a_tree_digest(capsys: pytest.CaptureFixture[str]) -> None:
    files = {"config.json": b'{"model_type": "bert"}', "model.safetensors": GOOD}
    write({f"d/hub/bert/{name}": content for name, content in files.items()} | {"d/other": GOOD})
    lines = {line["path"]: line for line in scanned(capsys, "d", code=0)}
    assert set(lines) == {"d/hub/bert", "d/other"}
    assert lines["d/hub/bert"]["digest"] == tree_digest((name.encode(), file_digest(content)) for name, content in files.items()).text
    (alone,) = scanned(capsys, "d/hub/bert/", code=0)
    assert (alone["path"], alone["digest"]) == ("d/hub/bert/", lines["d/hub/bert"]["digest"])
    Path("d/hub/bert/shard").symlink_to("/etc/hostname")
    (broken,) = scanned(capsys, "d/hub/bert")
    assert (broken["verdict"], broken["reasons"][-1]["member"]) == ("incomplete", "shard")
    write({"d/hub/bert/pytorch_model.bin": BAD})
    (bad,) = scanned(capsys, "d/hub/bert")
    assert (bad["verdict"], bad["reasons"][0]["member"]) == ("refused", "pytorch_model.bin")


@pytest.mark.parametrize(
    "arguments", [(), ("none",), ("a", "none"), ("a", "--jobs", "0x"), ("a", "--jobs", "-1"), ("a", "--jobs", "65"), ("",), ("a", "--fast")]
)
def test_usage_is_exit_2_and_nothing_is_scanned(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    write({"a": GOOD})
    assert cli.main(["scan", "--json", *arguments]) == 2
    (line,) = capsys.readouterr().out.splitlines()
    assert "error" in json.loads(line)


def test_a_file_that_goes_or_turns_into_a_link_between_finding_and_reading_is_told(tmp_path: Path) -> None:
    from vouchgate.flows.scan_artifacts import artifacts, scan_artifact
    from vouchgate.ports.artifact_files import Place
    from vouchgate.ports.scanner import FolderFile, Scanner

    write({"secret": GOOD, "d/a": GOOD, "d/b": GOOD, "d/sub/c": GOOD})
    place = Place("d")
    found = {artifact.path: artifact for artifact in artifacts(place)}
    Path("d/a").unlink()
    Path("d/b").unlink()
    Path("d/b").symlink_to(tmp_path / "secret")
    Path("d/sub").rename("moved")
    Path("d/sub").symlink_to(tmp_path / "moved")
    with Scanner() as scanner:
        for path in ("d/a", "d/b", "d/sub/c"):
            assert scan_artifact(found[path], scanner, FolderFile).report.verdict.outcome == "incomplete"
    place.close()


def test_the_table_says_what_may_be_loaded_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    write({"d/a": GOOD, "d/b": BAD})
    assert cli.main(["scan", "d"]) == 1
    shown = capsys.readouterr().out
    assert "d/a  safetensors  clean: may be loaded" in shown
    assert "d/b  pickle  refused: must not be loaded" in shown
    assert "os.system" in shown
    assert "1 of 2 are clean; 1 refused" in shown


def test_a_structure_scan_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    write({"a": GOOD})
    assert cli.main(["scan", "--structure", "--json", "a"]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "incomplete"


def test_sarif_names_each_reason_its_file_and_a_lasting_fingerprint(capsys: pytest.CaptureFixture[str]) -> None:
    write({"d/b c:ü.pt": BAD, "d/good": GOOD})
    assert cli.main(["scan", "d", "--sarif", "out.sarif"]) == 1
    first = json.loads(Path("out.sarif").read_text("utf-8"))
    (run,) = first["runs"]
    assert first["version"] == "2.1.0"
    assert run["invocations"] == [{"executionSuccessful": True}]
    result = run["results"][0]
    assert result["level"] == "error"
    assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "d/b%20c%3A%C3%BC.pt"
    assert cli.main(["scan", "d", "--sarif", "again.sarif", "--json"]) == 1
    assert json.loads(Path("again.sarif").read_text("utf-8")) == first
    Path("d/pipe").symlink_to("/etc/hostname")
    cli.main(["scan", "d", "--sarif", "again.sarif"])
    assert json.loads(Path("again.sarif").read_text("utf-8"))["runs"][0]["invocations"] == [{"executionSuccessful": False}]
    assert cli.main(["scan", "d", "--sarif", "none/x"]) == 2
    capsys.readouterr()


def test_ocsf_events_hold_to_their_schema(capsys: pytest.CaptureFixture[str]) -> None:
    write({"d/a": GOOD, "d/b": BAD, "d/c": b"\0\1\2"})
    Path(os.fsdecode(b"d/\xff")).symlink_to("/etc/hostname")
    assert cli.main(["scan", "d", "--ocsf", "events.jsonl"]) == 1
    events = [json.loads(line) for line in Path("events.jsonl").read_text("utf-8").splitlines()]
    assert len(events) == 3
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))
    validator = jsonschema_rs.validator_for(schema.get_class_schema(schema.lookup_class_name_from_uid(2004), []))
    for event in events:
        assert not [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(event)]
    broken = {key: value for key, value in events[0].items() if key != "finding_info"}
    assert list(validator.iter_errors(broken))
    capsys.readouterr()


def test_explain_shows_each_name_its_wheel_and_who_let_it_in(capsys: pytest.CaptureFixture[str]) -> None:
    own = b"\x80\x04cacme\nThing\n)\x81."
    write({"array": pickle_of_an_array(), "own": own})
    (array, other) = scanned(capsys, "array", "own", "--explain")
    names = {name["name"]: name for name in array["names"]}
    made = names["numpy._core.multiarray._reconstruct"]
    assert (made["uses"], made["arguments"], made["library"]) == (["callable"], "numpy-reconstruct", "numpy")
    assert made["reviewer"] and made["why"]
    assert names["sklearn.preprocessing._data.StandardScaler"]["wheel"]
    assert other["names"] == [{"name": "acme.Thing", "uses": []}]
    assert "names" not in scanned(capsys, "array", code=0)[0]
    assert cli.main(["scan", "--explain", "array", "own"]) == 1
    shown = capsys.readouterr().out
    assert "numpy._core.multiarray._reconstruct: callable, arguments: numpy-reconstruct" in shown
    assert "let in by the rules alone" in shown
    assert "wheel sha256:" in shown
    assert "acme.Thing: not known, so for no use" in shown


def pickle_of_an_array() -> bytes:
    """A scaler with an array in it, as scikit-learn's own would be pickled."""
    array = pickle.dumps({"mean_": np.arange(3.0)}, 4)[11:-1]
    return b"\x80\x04csklearn.preprocessing._data\nStandardScaler\n)\x81" + array + b"b."


def test_kept_verdicts_are_the_same_lines_and_a_folder_of_others_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write({"d/a": GOOD, "d/b": BAD, "d/hub/config.json": b'{"model_type": "bert"}', "d/hub/model.safetensors": GOOD})
    Path("d/c").symlink_to("/etc/hostname")
    plain = scanned(capsys, "d")
    assert scanned(capsys, "d", "--cache", "kept") == plain
    assert len(list(Path("kept").iterdir())) == 3, "what was not read is not kept"
    assert scanned(capsys, "d", "--cache", "kept") == plain
    write({"d/a": BAD})
    assert verdicts(scanned(capsys, "d", "--cache", "kept"))["d/a"] == "refused"
    Path("kept").chmod(0o755)
    assert cli.main(["scan", "d", "--cache", "kept"]) != 0
    assert "open to others" in capsys.readouterr().err


def test_settings_tighten_and_what_is_no_bound_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    write({"a": GOOD, "tight.toml": b"max_header_bytes = 10", "wrong.toml": b"max_member = 10"})
    (line,) = scanned(capsys, "a", "--settings", "tight.toml")
    assert line["reasons"][0]["rule"] == "safetensors:header-length"
    scanned(capsys, "a", "--cache", "kept", code=0)
    assert scanned(capsys, "a", "--settings", "tight.toml", "--cache", "kept")[0]["verdict"] == "refused"
    for name in ("wrong.toml", "none.toml"):
        assert cli.main(["scan", "a", "--settings", name]) == 2
        capsys.readouterr()
