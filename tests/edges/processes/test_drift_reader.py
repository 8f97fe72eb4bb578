"""What was read back is taken apart again only when one of both sides changed."""

from __future__ import annotations

import asyncio
import json
import zlib
from typing import Any

import pytest
from google.protobuf import any_pb2

from vouchgate.edges.envoy.ads import Resource
from vouchgate.edges.envoy.messages import CLUSTER_TYPE
from vouchgate.edges.envoy.settings import GatewaySettings
from vouchgate.edges.processes import drift_reader
from vouchgate.edges.processes.drift_reader import GatewayReader
from vouchgate.vocabulary.errors import InvalidInput


class Supervisor:
    """Says what the test lets it say."""

    def __init__(self) -> None:
        self.dump: Any = {"configs": []}
        self.info: Any = {"version": "1", "uptime_current_epoch": "1s"}

    async def call(self, method: str, /, **_: Any) -> Any:
        assert method == "read_back"
        return {"dump": zlib.compress(json.dumps(self.dump).encode()), "info": zlib.compress(json.dumps(self.info).encode())}


class Ads:
    """Holds one cluster."""

    def __init__(self) -> None:
        self.withholding, self.unleased = False, set[tuple[str, str]]()
        self.resource = Resource(any_pb2.Any(value=b"x"), "1")

    def held(self) -> dict[tuple[str, str], Resource]:
        return {(CLUSTER_TYPE, "upstream"): self.resource}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> tuple[Supervisor, Ads, GatewayReader, list[int]]:
    compared: list[int] = []
    real = drift_reader.drifts

    def counted(*given: Any) -> Any:
        compared.append(1)
        return real(*given)

    monkeypatch.setattr(drift_reader, "drifts", counted)
    monkeypatch.setattr(drift_reader, "unsound", lambda *_: [])
    supervisor, ads = Supervisor(), Ads()
    settings = GatewaySettings(trust_domain="test.local", **_settings(tmp_path))
    return supervisor, ads, GatewayReader(supervisor, ads, settings, list), compared  # type: ignore[arg-type]


def _settings(folder: Any) -> dict[str, Any]:
    import inspect

    needed = [
        name
        for name, one in inspect.signature(GatewaySettings).parameters.items()
        if one.default is inspect.Parameter.empty and name != "trust_domain"
    ]
    return {name: str(folder / name) for name in needed}


def read(reader: GatewayReader) -> list[tuple[str, str]]:
    return [(one.kind, one.what) for one in asyncio.run(reader())[0]]


def test_the_same_on_both_sides_is_not_compared_again(house: Any) -> None:
    supervisor, _, reader, compared = house
    first = read(reader)
    assert ("missing", "cluster upstream") in first
    supervisor.info["uptime_current_epoch"] = "2s"
    assert read(reader) == first
    assert len(compared) == 1


@pytest.mark.parametrize("side", ["dump", "info", "content", "version", "lease"])
def test_a_change_on_either_side_is_compared(house: Any, side: str) -> None:
    supervisor, ads, reader, compared = house
    read(reader)
    match side:
        case "dump":
            supervisor.dump["configs"].append({"static_secrets": [{"name": "x"}]})
        case "info":
            supervisor.info["version"] = "2"
        case "content":
            ads.resource = Resource(any_pb2.Any(value=b"y"), "1")
        case "version":
            ads.resource = Resource(any_pb2.Any(value=b"x"), "2")
        case _:
            ads.resource = Resource(any_pb2.Any(value=b"x"), "1", ttl=5.0)
    read(reader)
    assert len(compared) == 2


def test_what_is_withheld_or_sent_without_an_end_is_told_though_nothing_is_compared(house: Any) -> None:
    _, ads, reader, compared = house
    assert ("missing", "cluster upstream") in read(reader)
    ads.withholding, ads.unleased = True, {("type", "lease")}
    said = read(reader)
    assert ("missing", "cluster upstream") not in said
    assert ("unleased", "filter lease") in said
    assert len(compared) == 1


def test_what_is_no_dump_is_refused_each_time(house: Any) -> None:
    supervisor, _, reader, _ = house
    read(reader)
    supervisor.dump = 7
    for _ in range(2):
        with pytest.raises(InvalidInput):
            read(reader)
