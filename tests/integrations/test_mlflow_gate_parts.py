"""The gate's parts that need no MLflow: one spelling of places, marks, and what workers tell each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from vouchgate.integrations.mlflow_gate_artifacts import concern, is_plain, spelled
from vouchgate.integrations.mlflow_gate_ledger import Ledger, Live
from vouchgate.integrations.mlflow_gate_store import read_marks
from vouchgate.vocabulary.errors import InvalidSettings, Unavailable

LIVE = Live(name="digits", version="3", digest="sha256:" + "0" * 64, location="file:/a/0/r/artifacts/model")


@pytest.mark.parametrize(
    ("one", "other", "yes"),
    [
        ("s3://bucket/a/model", "s3://bucket/a/model/MLmodel", True),
        ("s3://bucket/a/model/", "s3://bucket/a", True),
        ("s3://bucket/a/model", "s3://bucket/a/model2", False),
        ("s3://bucket/a/%6dodel", "s3://bucket/a/model", True),
        ("s3://bucket/a/x/../model", "s3://bucket/a/model", True),
        ("s3://BUCKET/a//Model", "s3://bucket/a/model", True),
        ("s3://bucket", "s3://bucket/a", True),
        ("s3://bucket/a", "s3://bucket2/a", False),
        ("s3://bucket/a", "gs://bucket/a", False),
        ("/tmp/x/model", "file:///tmp/x/model/f", True),
        ("file:///tmp/x/%6dodel", "/tmp/x/model", True),
        ("/tmp/x/../x/model", "/tmp/x/model", True),
        ("/tmp/x/model", "/tmp/x/modelling", False),
    ],
)
def test_places_concern_each_other_however_they_are_spelled(one: str, other: str, yes: bool) -> None:
    assert concern(spelled(one), spelled(other)) is concern(spelled(other), spelled(one)) is yes


def test_a_local_place_is_what_its_links_lead_to(tmp_path: Path) -> None:
    (tmp_path / "real" / "model").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert concern(spelled(str(tmp_path / "link"), "model", "new.txt"), spelled(str(tmp_path / "real" / "model")))
    assert spelled(str(tmp_path), "/etc/passwd") == spelled(str(tmp_path / "etc" / "passwd"))


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("mlflow-artifacts:/0/run/artifacts/model", True),
        ("s3://bucket/a/model", True),
        ("/a/model", True),
        ("mlflow-artifacts:/0/run%2fmodel", False),
        ("mlflow-artifacts:/0//model", False),
        ("mlflow-artifacts:/0/../model", False),
        ("mlflow-artifacts:/0/model/", False),
        ("s3://bucket/a?x", False),
        ("s3://bucket/a#x", False),
        ("s3://bucket/a\\b", False),
        ("s3://bucket/a\nb", False),
        ("", False),
    ],
)
def test_an_address_that_can_be_read_in_two_ways_is_none(uri: str, plain: bool) -> None:
    assert is_plain(uri) is plain


@pytest.mark.parametrize(
    ("text", "guarded", "free"),
    [
        ("alias:Champion", [("alias", "champion"), ("alias", "CHAMPION"), ("alias", "chämpion")], [("alias", "challenger")]),
        ("alias:*", [("alias", "anything")], [("stage", "Production")]),
        ("stage:production", [("stage", "Production"), ("stage", "PRODUCTION"), ("stage", "ｐroduction")], [("stage", "Archived")]),
        (
            "tag:status=approved",
            [("status", "Approved "), ("STATUS", "approved"), ("status", "äpproved"), ("ſtatus", "x")],
            [("status", "no")],
        ),
        ("tag:released", [("released", "anything"), ("Released", "")], [("release", "x")]),
        ("alias:a", [], [("status", "approved"), ("ſtatus", "x")]),
    ],
)
def test_marks(text: str, guarded: list[tuple[str, str]], free: list[tuple[str, str]]) -> None:
    marks = read_marks(text)

    def held(one: tuple[str, str]) -> bool:
        kind, name = one
        return marks.alias(name) if kind == "alias" else marks.stage(name) if kind == "stage" else marks.tag(kind, name)

    assert [held(one) for one in guarded] == [True] * len(guarded)
    assert [held(one) for one in free] == [False] * len(free)


@pytest.mark.parametrize("text", ["", "  ", "champion", "alias:", "label:x", "alias:chämpion", "alias:a,b tag:"])
def test_marks_that_are_none(text: str) -> None:
    with pytest.raises(InvalidSettings):
        read_marks(text)


def test_what_is_said_holds_as_long_as_its_block(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "state"), Ledger(tmp_path / "state")
    with one.say("writing", "file:/a/b"), one.say("writing", "s3://\udc80"):
        assert sorted(other.said("writing")) == ["file:/a/b", "s3://\udc80"]
        assert other.said("going-live") == []
    assert other.said("writing") == []
    with pytest.raises(KeyError), one.say("going-live", "file:/a"):
        raise KeyError
    assert other.said("going-live") == []
    assert [one.name for one in (tmp_path / "state").iterdir() if one.name.startswith("new-")] == []


def _say_and_wait(folder: Path, ready: object) -> None:
    with Ledger(folder).say("writing", "file:/a"):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(600)


def test_a_worker_that_dies_takes_its_word_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=_say_and_wait, args=(tmp_path / "state", ready), daemon=True)
    worker.start()
    assert ready.wait(60)
    ledger = Ledger(tmp_path / "state")
    assert ledger.said("writing") == ["file:/a"]
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join(30)
    assert ledger.said("writing") == []
    assert list((tmp_path / "state" / "writing").iterdir()) == []


def test_what_went_live_is_kept_and_seen_by_every_worker(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / "state"), Ledger(tmp_path / "state")
    assert other.live() == ()
    one.add(LIVE)
    assert (other.live(), other.of("digits", "3"), other.of("digits", "4"), other.of("digit", "s3")) == ((LIVE,), LIVE, None, None)
    one.add(Live(name="digits", version="4", digest=LIVE.digest, location="s3://b/m"))
    other.drop("digits", "3")
    assert [record.version for record in one.live()] == ["4"]
    other.drop("digits")
    assert one.live() == Ledger(tmp_path / "state").live() == ()


@pytest.mark.parametrize("data", [b"", b"{}", b'{"name":"a"', b"[" * 9_000])
def test_a_record_that_cannot_be_read_ends_writing(tmp_path: Path, data: bytes) -> None:
    ledger = Ledger(tmp_path / "state")
    ledger.add(LIVE)
    (record,) = (tmp_path / "state" / "live").iterdir()
    record.write_bytes(data)
    with pytest.raises(Unavailable):
        Ledger(tmp_path / "state").live()


@pytest.mark.parametrize("how", ["open to others", "a link", "a file", "a part open to others"])
def test_a_folder_that_is_not_the_servers_own_is_refused(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "state"
    if how == "open to others":
        folder.mkdir(mode=0o750)
    elif how == "a link":
        (tmp_path / "real").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "real")
    elif how == "a file":
        folder.write_bytes(b"")
    else:
        Ledger(folder)
        (folder / "live").chmod(0o777)
    with pytest.raises(InvalidSettings):
        Ledger(folder)
