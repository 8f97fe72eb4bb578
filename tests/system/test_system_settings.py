"""What `vouchgate up` says when it cannot start: what is wrong, where, and what to do; and nothing is left running."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import EXAMPLE, Installation

from vouchgate.ports.isolate import closed_ancestors

UP_SECONDS = 40


@pytest.fixture
def house() -> Iterator[Installation]:
    """Not started."""
    made = Installation(isolate="off")
    yield made
    made.close()


def up(house: Installation, *, env: dict[str, str] | None = None, uid: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("vouchgate")), "up", "--config", str(house.settings)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=UP_SECONDS, cwd=house.folder, env=env, user=uid)


def change(house: Installation, old: str, new: str) -> int:
    """Replace in the settings; the line where it now stands."""
    text = house.settings.read_text()
    assert old in text
    house.settings.write_text(text.replace(old, new, 1))
    return text[: text.index(old)].count("\n") + 1 + (len(new) - len(new.lstrip("\n")))


def refused(house: Installation, *words: str, code: int = 3) -> str:
    done = up(house)
    said = done.stdout + done.stderr
    assert done.returncode == code, (done.returncode, said)
    assert "Traceback" not in said, said
    assert "fix" in done.stderr, said
    for word in words:
        assert word in said, (word, said)
    return said


def test_an_unknown_key_is_named_with_file_line_and_the_nearest_key(house: Installation) -> None:
    line = change(house, "[gateway]\nlisten", "[gateway]\nlissten")
    refused(house, "lissten", "`listen`", f"{house.settings}", f"{line + 1}", code=2)


MISTAKES = [
    ('isolate = "off"', 'isolate = "maybe"', "isolate"),
    ("lease_seconds = 2", "lease_seconds = 0", "lease_seconds"),
    ("lease_seconds = 2", 'lease_seconds = "2"', "lease_seconds"),
    ('trust_domain = "example.local"', 'trust_domain = "Exa mple"', "trust_domain"),
    ('zone = "serve"', 'zone = "sevre"', "sevre"),
    ('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:99999"', "listen"),
    ('method = "POST"', 'method = "FETCH"', "method"),
    ('"tiny-1" = "tiny-1"', '"tiny-1" = "tiny-9"', "tiny-9"),
    ("[console]", "[console", "line"),
    ("[zones.agents]", "[zones.serve]", "serve"),
    ('[console]\nlisten = "127.0.0.1:0"', '[console]\nlisten = "0.0.0.0:0"', "loopback"),
    ("solo = true", "solo = true\nsolo = true", "line 5"),
]


@pytest.mark.parametrize(("old", "new", "word"), MISTAKES)
def test_a_mistake_in_the_settings_is_named_with_its_line(house: Installation, old: str, new: str, word: str) -> None:
    change(house, old, new)
    refused(house, word, str(house.settings.name), code=2)


@pytest.mark.parametrize(
    ("section", "key"), [("gateway]\nlisten", "[gateway] listen"), ("console]\nlisten", "[console] listen"), ("0\"\nplain_listen", "[gateway] plain_listen")]
)  # fmt: skip
def test_a_port_that_is_taken_is_named_with_its_key(house: Installation, section: str, key: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        change(house, f'{section} = "127.0.0.1:0"', f'{section} = "127.0.0.1:{taken}"')
        refused(house, str(taken), key)


def test_a_missing_settings_file_is_named(house: Installation) -> None:
    house.settings.unlink()
    refused(house, str(house.settings), code=2)


def test_a_policy_with_an_error_is_named_with_file_and_line(house: Installation) -> None:
    policy = house.folder / "mine.cedar"
    policy.write_text(
        f"// one\n// two\npermit (principal, action, resource) when {{ context.nosuch }};\n{(EXAMPLE / 'digits.cedar').read_text()}"
    )
    change(house, str(EXAMPLE / "digits.cedar"), str(policy))
    refused(house, "mine.cedar", "line 3")


def test_a_policy_that_is_no_cedar_is_named_with_its_line(house: Installation) -> None:
    policy = house.folder / "mine.cedar"
    policy.write_text("// one\npermit (principal action resource);\n")
    change(house, str(EXAMPLE / "digits.cedar"), str(policy))
    refused(house, "mine.cedar", "line 2")


def test_a_policy_file_that_is_missing_is_named(house: Installation) -> None:
    change(house, str(EXAMPLE / "digits.cedar"), str(house.folder / "none.cedar"))
    refused(house, "none.cedar", code=2)


def test_a_data_directory_whose_sockets_would_be_too_long_is_refused(house: Installation) -> None:
    change(house, str(house.data), str(house.folder / ("d" * 90)))
    refused(house, "107", "data_dir", code=2)


def test_a_data_directory_that_is_a_file_or_below_one_is_refused(house: Installation) -> None:
    house.data.write_text("a file")
    refused(house, "data_dir", str(house.data), code=2)
    change(house, str(house.data), str(house.data / "below"))
    refused(house, "data_dir", str(house.data), code=2)


def test_a_data_directory_that_cannot_be_made_is_refused(house: Installation) -> None:
    change(house, str(house.data), "/proc/no-such-process")
    refused(house, "data_dir", "/proc/no-such-process", code=2)


@pytest.mark.skipif(
    os.geteuid() != 0 or bool(closed_ancestors([Path(sys.executable).resolve(), Path(sys.prefix)])),
    reason="only root can be another uid, and only with an interpreter that others may enter",
)
def test_a_data_directory_that_may_not_be_written_is_refused() -> None:
    folder = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    try:
        folder.chmod(0o755)
        made = Installation(isolate="off", folder=folder)
        done = up(made, uid=58_991)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done
        assert "data_dir" in done.stderr and str(folder) in done.stderr and "fix" in done.stderr
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can isolate")
def test_isolation_that_is_required_and_impossible_is_refused(house: Installation) -> None:
    change(house, 'isolate = "off"', 'isolate = "require"')
    refused(house, "root")


def test_a_platform_without_what_is_needed_is_told_so(house: Installation) -> None:
    program = (
        "import platform, sys\n"
        "platform.system = lambda: 'Plan9'\n"
        "from vouchgate.edges.cli.main import main\n"
        f"sys.exit(main(['up', '--config', {str(house.settings)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=UP_SECONDS)
    assert done.returncode == 3 and "Linux" in done.stderr and "Traceback" not in done.stderr, done


def test_a_second_tree_on_the_same_data_is_refused_and_the_first_goes_on() -> None:
    with Installation(isolate="off") as first:
        alice = first.caller("alice")
        first.until(lambda: first.infer(alice).status == 200, 10)
        done = up(first)
        assert done.returncode == 3 and "already runs" in done.stderr and "fix" in done.stderr, done
        assert first.infer(alice).status == 200
        assert first.ready()


def test_a_model_that_is_missing_a_pickle_or_a_server_that_cannot_start_leaves_its_endpoint_refused_and_the_rest_served() -> None:
    evil = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    try:
        (evil / "model.onnx").write_bytes(pickle.dumps({"a": print}))
        more = f"""
[[endpoints]]
name = "evil"
zone = "serve"
command = ["{{python}}", "{EXAMPLE}/model_server.py", "--model", "{{model}}", "--name", "evil", "--fd", "{{fd}}"]
model = "{evil}/model.onnx"
routes = [{{ method = "POST", path = "/evil", action = "infer" }}]

[[endpoints]]
name = "none"
zone = "serve"
command = ["{{python}}", "{EXAMPLE}/model_server.py", "--model", "{{model}}", "--name", "none", "--fd", "{{fd}}"]
model = "{evil}/none.onnx"
routes = [{{ method = "POST", path = "/none", action = "infer" }}]

[[endpoints]]
name = "broken"
zone = "serve"
command = ["/nonexistent/program"]
routes = [{{ method = "POST", path = "/broken", action = "infer" }}]
"""
        with Installation(isolate="off", more=more) as house:
            said = house.said()
            assert "model.onnx" in said and "not admitted" in said, said
            assert "none.onnx" in said and "refused" in said, said
            assert "broken cannot be started" in said, said
            alice = house.caller("alice")
            house.until(lambda: house.infer(alice).status == 200, 10)
            assert {house.call(alice, path).status for path in ("/evil", "/none", "/broken")} == {403}
    finally:
        shutil.rmtree(evil)
