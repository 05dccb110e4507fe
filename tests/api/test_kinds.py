"""Lists of payloads and their bytes over the sample data, against answers that were looked at once."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from sqlalchemy import Engine, text

from indexer.config import Config
from indexer.db.engine import open_reader, transaction
from indexer.payload import OCTETS
from indexer.plugins import KINDS
from tests.api.conftest import Api, Wanted
from tests.support.following import SMALL, Follower, make
from tests.support.records import (
    ms_image,
    ms_version,
    png,
    tb_image,
    tb_session_start,
    tb_strings,
    tb_tensor,
    tb_version,
)
from tests.support.statements import statements
from webapi import blobs, kinds
from webapi.headers import PAYLOAD_POLICY

GOLDEN = Path(__file__).parents[1] / "golden" / "kinds.json"
REQUESTS: list[tuple[str, dict[str, object]]] = [
    ("/images", {"job": "mindspore:./images", "limit": 2}),
    ("/images", {"job": "tensorboard:./images-new", "tag": "three", "to_step": 0}),
    ("/histograms", {"job": "tensorboard:./hist-old", "tag": "w/constant", "limit": 1}),
    ("/histograms", {"job": "mindspore:./histograms", "limit": 1, "bins": 4}),
    ("/tensors", {"job": "tensorboard:./tensors", "tag": "dtype/bool", "limit": 1, "dims": "[:, 1:]"}),
    ("/tensors", {"job": "mindspore:./tensors", "tag": "non-finite", "limit": 1, "dims": "0,:"}),
    ("/texts", {"job": "tensorboard:./text", "tag": "table"}),
    ("/audio", {"job": "tensorboard:./audio-old", "limit": 1}),
    ("/audio", {"job": "tensorboard:./audio-new", "limit": 2}),
    ("/pr-curves", {"job": "tensorboard:./pr-curves", "limit": 1}),
    ("/meshes", {"job": "tensorboard:./mesh", "limit": 3, "dims": "0,0,:"}),
    ("/custom-scalars", {"job": "tensorboard:./custom-scalars"}),
    ("/logs", {"job": "tensorboard:./run-metadata"}),
    ("/tensors", {"job": "tensorboard:./tensors", "tag": "own/plugin", "limit": 1}),
    ("/graphs", {"job": "tensorboard:./run-metadata", "restarts": "all"}),
    ("/graphs", {"job": "mindspore:./graph", "tag": "events.out.events.summary.1795230821.0.trainer-a_MS"}),
]
FILE = "events.out.tfevents.1700000000.x"


def plain(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return items without what depends on the order of loading."""
    return [{name: value for name, value in item.items() if name not in {"job", "url", "nodes_url"}} for item in items]


def test_answers_are_those_of_the_golden_file(samples: Api, request: pytest.FixtureRequest) -> None:
    """Each kind's list, over MindSpore's and TensorBoard's files, with its options."""
    found = [
        {"path": path, "parameters": wanted, "items": plain(samples.get(path, wanted)["items"])}
        for path, wanted in REQUESTS
    ]
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == json.loads(json.dumps(found))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_pages_are_the_whole_list(samples: Api, kind: Any) -> None:
    """However many items a page has, all pages hold every payload of the kind once, in order; the bytes are theirs."""
    everything = samples.get(kind.path, {"limit": 10_000, "restarts": "all"})
    assert everything["next"] is None
    with samples.reader.connect() as conn:
        count = conn.execute(text("SELECT count(*) FROM blobs WHERE kind = :kind"), {"kind": kind.name}).scalar_one()
    urls = [item["url"] for item in everything["items"]]
    assert (count, count) == (len(urls), len(set(urls)))
    for limit in (7, 64):
        assert urls == [item["url"] for item in samples.pages(kind.path, {"limit": limit, "restarts": "all"})]
    for item in everything["items"][::17]:
        answer = samples.request(item["url"])
        assert (item["sha256"], item["bytes"]) == (hashlib.sha256(answer.data).hexdigest(), len(answer.data))
        assert answer.content_type == (item["content_type"] if item["content_type"] in kinds.SAFE else OCTETS)
        assert ("attachment" in answer.headers.get("Content-Disposition", "")) == (answer.content_type == OCTETS)
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        assert PAYLOAD_POLICY == answer.headers["Content-Security-Policy"]


def test_filters_choose(samples: Api) -> None:
    """Jobs, tags, plugin and steps, alone and together; nothing of other kinds."""
    everything = samples.pages("/images", {"limit": 500, "restarts": "all"})
    for wanted, keep in (
        ({"plugin": "images"}, lambda item: item["plugin"] == "images"),
        ({"from_step": 3}, lambda item: item["step"] >= 3),
        ({"from_step": 1, "to_step": 2}, lambda item: 1 <= item["step"] <= 2),
        ({"job": "mindspore:./images"}, lambda item: (item["train_id"], item["plugin"]) == ("./images", "image")),
        ({"tag": "three", "to_step": 0}, lambda item: item["tag"] == "three" and item["step"] == 0),
    ):
        expected = [item for item in everything if keep(item)]
        assert expected
        assert expected == samples.pages("/images", {"limit": 11, "restarts": "all", **wanted})
    assert [] == samples.get("/audio", {"job": "mindspore:./images"})["items"]


@pytest.mark.parametrize(
    ("path", "wanted", "status", "parameter"),
    [
        ("/images", {"job": "./none"}, 404, "job"),
        ("/images", {"tag": "none"}, 404, "tag"),
        ("/images", {"after": "x"}, 400, "after"),
        ("/images", {"bins": 3}, 400, "bins"),
        ("/histograms", {"bins": 0}, 400, "bins"),
        ("/tensors", {"tag": "dtype/bool", "dims": "9,9"}, 400, "dims"),
        ("/blobs/999999999/0/0/0", {}, 404, "tag"),
        ("/blobs/1/0/0/99", {}, 404, "tag"),
        (f"/blobs/1/{2**63}/0/0", {}, 404, "tag"),
        (f"/blobs/{2**31}/-1/0/0", {}, 404, "tag"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    samples: Api, path: str, wanted: Wanted, status: int, parameter: str
) -> None:
    """A parameter that cannot be right is 400, what does not exist 404, both named."""
    assert parameter == samples.get(path, wanted, status=status)["parameter"]


def test_a_cursor_of_another_list_is_refused(samples: Api) -> None:
    """`next` of images does not go on with sounds."""
    following = samples.get("/images", {"limit": 1})["next"]
    assert "after" == samples.get("/audio", {"after": following}, status=400)["parameter"]


def test_histograms_are_binned_as_asked(samples: Api) -> None:
    """So many bins as asked for, with as many values as the buckets have."""
    wanted = {"job": "mindspore:./histograms", "limit": 50}
    plain_, binned = (samples.get("/histograms", wanted | more)["items"] for more in ({}, {"bins": 5}))
    assert len(plain_) == len(binned) == 50
    for one, other in zip(plain_, binned, strict=True):
        total = sum(bucket[2] for bucket in one["buckets"])
        assert (5 if total else 0) == len(other["buckets"])
        assert math.isclose(total, sum(bucket[2] for bucket in other["buckets"]))
        assert one["statistics"] == other["statistics"]


def test_tensors_can_be_loaded_by_numpy(samples: Api) -> None:
    """`form=npy` is the tensor in its shape, with `dims` a part of it; other kinds have no such form."""
    (item,) = samples.get("/tensors", {"tag": "dtype/int16", "job": "tensorboard:./tensors", "to_step": 0})["items"]
    whole, row = (
        np.load(io.BytesIO(samples.request(item["url"] + query).data)) for query in ("?form=npy", "?form=npy&dims=1,:")
    )
    assert (np.dtype("int16"), (2, 3)) == (whole.dtype, whole.shape)
    assert whole[1].tolist() == row.tolist()
    assert samples.request(item["url"]).data == whole.tobytes()
    bad = samples.request(item["url"] + "?form=npy&dims=9,9")
    assert (400, "dims") == (bad.status_code, bad.json and bad.json["parameter"])
    (image,) = samples.get("/images", {"limit": 1})["items"]
    bad = samples.request(image["url"] + "?form=npy")
    assert (400, "form") == (bad.status_code, bad.json and bad.json["parameter"])


def test_bytes_are_sent_once(samples: Api) -> None:
    """The entity tag of a payload is of its bytes: who has them is told so, in any form apart."""
    (item,) = samples.get("/tensors", {"limit": 1})["items"]
    tags = set()
    for query in ("", "?form=npy"):
        answer = samples.request(item["url"] + query)
        tags.add(answer.headers["ETag"])
        again = samples.request(item["url"] + query, headers={"If-None-Match": answer.headers["ETag"]})
        assert (304, b"") == (again.status_code, again.data)
        policies = {sent.headers["Content-Security-Policy"] for sent in (answer, again)}
        assert {PAYLOAD_POLICY} == policies  # browsers keep a 304's headers
        head = samples.request(item["url"] + query, method="HEAD")
        assert (200, b"", answer.headers["ETag"]) == (head.status_code, head.data, head.headers["ETag"])
    assert 2 == len(tags)


def test_a_list_takes_the_same_statements_whatever_its_length(samples: Api) -> None:
    """Ten items or five hundred of one tag: as many statements."""
    counts = []
    for limit in (10, 33):
        with statements(samples.reader) as sent:
            samples.get("/images", {"job": "mindspore:./scalars-long", "limit": limit})
        counts.append(len(sent))
    assert counts[0] == counts[1]


def test_a_list_shows_so_many_bytes_and_no_more(samples: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit is listed without its content, and its address still gives the bytes."""
    monkeypatch.setattr(kinds, "PAGE_BYTES", 30)
    items = samples.get("/texts", {"job": "tensorboard:./text", "limit": 100})["items"]
    shown = [item["text"] for item in items if item["text"] is not None]
    assert 0 < len(shown) < len(items)
    assert sum(len(text_.encode()) for text_ in shown) <= 30
    assert all(samples.request(item["url"]).data for item in items if item["text"] is None)


def test_a_long_list_is_read_in_rounds(samples: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that looked often enough ends short, with where to go on; so does one whose tags are many."""
    expected = samples.pages("/histograms", {"limit": 1_000, "restarts": "all"})
    monkeypatch.setattr(blobs, "ROUNDS", 1)
    monkeypatch.setattr(kinds, "TAGS_A_PAGE", 2)
    assert expected == samples.pages("/histograms", {"limit": 40, "restarts": "all"})


@pytest.fixture
def mine(engine: Engine, url: str, tmp_path: Path) -> Iterator[tuple[Api, Path]]:
    """The API over files of the test's own, and their directory."""
    root = make(
        tmp_path / "runs",
        {
            f"a/{FILE}": tb_version(1.0)
            + tb_image("first", 1, png(2, 2), 1.0)
            + tb_image("first", 2, png(2, 2, 1), 1.0)
            + tb_session_start(2, 2.0)
            + tb_image("first", 2, png(2, 2, 2), 2.0)
            + tb_image("markup", 1, b"<svg onload='alert(1)'/>", 1.0)
            + tb_strings("markup", 1, [b"<script>alert(1)</script>"], 1.0)
            + tb_tensor("long", 1, (100,), b"\x00\x00\x80?" * 100, 1.0),
            "b/events.out.events.summary.1.0.x_MS": ms_version(1.0) + ms_image("first", -5, png(1, 1), 1.0),
        },
    )
    config = SMALL.__class__(url=url, kernel=False, slice_bytes=2**16, max_blob_bytes=300)
    Follower(engine, root, config=config).scan()
    reader = open_reader(url)
    yield Api.over(Config(url=url, query_seconds=5.0), reader), root / "a" / FILE
    reader.dispose()


def test_superseded_images_are_left_out(mine: tuple[Api, Path]) -> None:
    """What a session start overtook is shown only when it is asked for."""
    api, _ = mine
    wanted = {"tag": "first", "job": "./a"}
    assert [(1, 0), (2, 1)] == [(i["step"], i["seq"]) for i in api.get("/images", wanted)["items"]]
    every = api.get("/images", wanted | {"restarts": "all"})["items"]
    assert [(1, 0), (2, 0), (2, 1)] == [(i["step"], i["seq"]) for i in every]
    assert [png(2, 2), png(2, 2, 1), png(2, 2, 2)] == [api.request(i["url"]).data for i in every]


def test_logs_are_listed_whole(mine: tuple[Api, Path]) -> None:
    """What a session start overtook stays in the list of logs: it is history, not data."""
    api, _ = mine
    (start,) = api.get("/logs")["items"]
    assert {"field": "session_log", "status": "START"} == start["metadata"]
    assert [start] == api.get("/logs", {"restarts": "all"})["items"]
    wanted = {p["name"]: p["schema"] for p in api.document["paths"]["/logs"]["get"]["parameters"]}
    assert "all" == wanted["restarts"]["default"]


def test_a_negative_step_has_an_address(mine: tuple[Api, Path]) -> None:
    """The bytes of a point before step 0 are found."""
    api, _ = mine
    (item,) = api.get("/images", {"job": "./b"})["items"]
    assert (-5, png(1, 1)) == (item["step"], api.request(item["url"]).data)


def test_markup_is_saved_not_shown(mine: tuple[Api, Path]) -> None:
    """SVG in place of an image is an error and sent as bytes to save; HTML in a text is plain text."""
    api, _ = mine
    (item,) = api.get("/images", {"tag": "markup"})["items"]
    assert "begin like no PNG" in item["error"]
    answer = api.request(item["url"])
    assert (OCTETS, b"<svg onload='alert(1)'/>") == (answer.content_type, answer.data)
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    (item,) = api.get("/texts", {"tag": "markup"})["items"]
    assert "<script>alert(1)</script>" == item["text"]
    assert "text/plain; charset=utf-8" == api.request(item["url"]).content_type


def test_a_long_payload_is_read_from_its_file(mine: tuple[Api, Path]) -> None:
    """It says where it is, its bytes and forms come from there, and when the file is another or gone that is a 404."""
    api, path = mine
    (item,) = api.get("/tensors", {"tag": "long", "dims": ":"})["items"]
    assert ("file", 400, None, {"dtype": "float32", "shape": [100]}) == (
        item["stored"],
        item["bytes"],
        item["values"],
        item["metadata"],
    )
    assert b"\x00\x00\x80?" * 100 == api.request(item["url"]).data
    assert [1.0] * 100 == np.load(io.BytesIO(api.request(item["url"] + "?form=npy").data)).tolist()
    whole = path.read_bytes()
    for other in (whole[:-30], whole.replace(b"\x00\x00\x80?", b"\x00\x00\x00@")):
        path.write_bytes(other)
        for query in ("", "?form=npy"):
            assert 404 == api.request(item["url"] + query).status_code
    path.unlink()
    assert "file is not what it was" in api.request(item["url"]).text
    os.mkfifo(path)
    assert 404 == api.request(item["url"]).status_code
    path.unlink()
    path.write_bytes(whole)
    assert 200 == api.request(item["url"]).status_code


def test_a_kind_of_a_newer_program_is_not_served(mine: tuple[Api, Path], engine: Engine) -> None:
    """A row whose kind nobody here knows is 404, not a defect."""
    api, _ = mine
    (item,) = api.get("/images", {"job": "./b"})["items"]
    with transaction(engine) as conn:
        conn.execute(text("UPDATE blobs SET kind = 'hologram' WHERE step = -5"))
    assert 404 == api.request(item["url"]).status_code


def test_names_with_odd_characters_can_be_asked_for(mine: tuple[Api, Path]) -> None:
    """A tag nobody has is told in words, whatever characters it holds."""
    api, _ = mine
    found = api.request(f"/api/v1/images?tag={quote('<b>&')}")
    assert (404, True) == (found.status_code, "'<b>&'" in found.text)
