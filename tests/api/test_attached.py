"""Payloads beside the points of `/points`, of whatever kind; pages that end where there would be too much."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from indexer.config import Config
from indexer.db.engine import open_reader
from tests.api.conftest import Api
from tests.support.following import SMALL, Follower, make
from tests.support.records import png, tb_image, tb_scalar, tb_strings, tb_tensor, tb_version
from tests.support.statements import statements
from webapi import attached, v1

FILE = "events.out.tfevents.1700000000.x"
WORDS = [[b"one", b"two"], [b"three"], [b"four", b"five", b"six"]]


@pytest.fixture
def mine(engine: Engine, url: str, tmp_path: Path) -> Iterator[Api]:
    """The API over a run with numbers, images, texts and a tensor that stays in its file."""
    records = tb_version(1.0) + tb_tensor("long", 1, (100,), bytes(400), 1.0)
    for step, words in enumerate(WORDS):
        records += tb_scalar("loss", step, step / 2, 1.0) + tb_image("image", step, png(2, 2, step), 1.0)
        records += tb_strings("text", step, words, 1.0) + tb_scalar("loss", step + 9, float("nan"), 1.0)
    root = make(tmp_path / "runs", {f"a/{FILE}": records})
    Follower(engine, root, config=SMALL.__class__(url=url, kernel=False, max_blob_bytes=300)).scan()
    reader = open_reader(url)
    yield Api.over(Config(url=url, query_seconds=5.0), reader)
    reader.dispose()


def contents(items: list[dict[str, Any]]) -> list[tuple[str, int, list[bytes | None]]]:
    """Return tag, step and bytes of items with payloads."""
    return [
        (
            item["tag"],
            item["step"],
            [None if one["base64"] is None else base64.b64decode(one["base64"]) for one in item["payloads"]],
        )
        for item in items
        if "payloads" in item
    ]


EXPECTED: dict[str, list[list[bytes]]] = {"image": [[png(2, 2, step)] for step in range(3)], "text": WORDS}


def test_points_have_their_payloads(mine: Api) -> None:
    """Each with its kind, type, length and address, which gives the bytes; numbers have none, as before."""
    items = mine.get("/points")["items"]
    assert {"loss", "image", "text", "long"} == {item["tag"] for item in items}
    assert [False] * 6 == ["payloads" in item for item in items if item["tag"] == "loss"]
    for tag, expected in EXPECTED.items():
        payloads = [item["payloads"] for item in items if item["tag"] == tag]
        assert expected == [[mine.request(one["url"]).data for one in point] for point in payloads]
        assert [[len(data) for data in point] for point in expected] == [
            [one["length"] for one in point] for point in payloads
        ]
        assert {tag} == {one["kind"] for point in payloads for one in point}
        assert not any("base64" in one for point in payloads for one in point)
    (image,) = (one for item in items if (item["tag"], item["step"]) == ("image", 0) for one in item["payloads"])
    assert ("image/png", 0, None) == (image["content_type"], image["ordinal"], image["error"])


def test_points_have_their_bytes_where_asked_for(mine: Api) -> None:
    """`payload=base64` gives them, but for those that are in a file."""
    found = contents(mine.get("/points", {"payload": "base64"})["items"])
    for tag, expected in EXPECTED.items():
        assert expected == [data for name, _, data in found if name == tag]
    assert [[None]] == [data for name, _, data in found if name == "long"]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_page_ends_where_there_would_be_too_much(mine: Api, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few payloads or bytes a page may have, all pages hold every point once; one alone shows what fits."""
    whole = mine.get("/points", {"payload": "base64"})["items"]
    for name, value in (("PAYLOADS", 3), ("PAYLOAD_BYTES", 10), ("PAYLOADS", 2)):
        monkeypatch.setattr(v1, name, value)
        found = mine.pages("/points", {"payload": "base64", "limit": limit})
        keys = [(item["tag"], item["step"], item["seq"]) for item in found]
        assert [(item["tag"], item["step"], item["seq"]) for item in whole] == keys
    texts = [data for tag, _, data in contents(found) if tag == "text"]
    assert [[b"one", b"two"], [b"three"], [b"four", b"five"]] == texts
    assert [[None]] * 3 == [data for tag, _, data in contents(found) if tag == "image"]


def test_statements_grow_with_hundreds_of_points_only(mine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement tells which tags have payloads, one reads those of so many points; numbers cost none."""
    counts = []
    for wanted in ({"tag": "text", "to_step": 0}, {"tag": "text"}, {"tag": "loss", "to_step": 2}):
        with statements(mine.reader) as sent:
            mine.get("/points", wanted)
        counts.append(len(sent))
    assert counts[0] == counts[1] == counts[2] + 2
    monkeypatch.setattr(attached, "POINTS_AT_ONCE", 1)
    expected = mine.get("/points")["items"]
    monkeypatch.undo()
    assert mine.get("/points")["items"] == expected
