"""What is in a graph over REST: scopes, search, one node; over the sample data and over graphs of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from indexer import graphs as chunks
from indexer.config import Config
from indexer.db.engine import open_reader
from tests.api.conftest import Api
from tests.conftest import DATA
from tests.support.following import SMALL, Follower, make
from tests.support.messages import ms_graph, ms_model, ms_node, tb_graph, tb_node
from tests.support.records import bytes_field, ms_event, ms_version, png, tb_event, tb_image, tb_version
from tests.support.statements import statements
from webapi import graphs

WORDS = ("relu", "conv", "dense", "ReLU")
NAMES = [f"net/{WORDS[i % 4]}{i // 40}/{WORDS[i // 7 % 4]}-op{i}" for i in range(400)]
NODES = [ms_node(str(i), f"T{i % 3}", ["w", str(i - 1)], full_name=name) for i, name in enumerate(NAMES)]
GRAPH = ms_graph(NODES, ["w"])


@pytest.fixture
def mine(engine: Engine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """The API over graphs in many chunks: in the database, in a file, broken; and over those of the sample data."""
    monkeypatch.setattr(chunks, "CHUNK_ENTRIES", 16)
    odd = [tb_node(n, "T") for n in ("a", "a/b", "a", "<i>x", "ünï/CODE", "/lead", "")]
    root = make(
        tmp_path / "runs",
        {
            "a/big.pb": ms_model(GRAPH),
            "a/events.out.events.summary.1.0.x_MS": ms_version(1.0) + ms_event(1.0, bytes_field(4, b"\x0a\x7f")),
            "b/events.out.tfevents.1.x": tb_version(1.0)
            + tb_event(1.0, bytes_field(4, tb_graph(odd)), -7)
            + tb_image("image", 1, png(1, 1), 1.0),
        },
    )
    config = SMALL.__class__(url=url, kernel=False, slice_bytes=2**16, max_blob_bytes=10_000)
    Follower(engine, root, DATA / "mindspore", config=config).scan()
    reader = open_reader(url)
    yield Api.over(Config(url=url, query_seconds=20.0), reader)
    reader.dispose()


def address(api: Api, tag: str, job: str = "runs:./a") -> str:
    """Return the path of the nodes of a graph."""
    (item,) = api.get("/graphs", {"job": job, "tag": tag})["items"]
    url: str = item["nodes_url"]
    return url.removeprefix("/api/v1")


def names(items: list[dict[str, Any]]) -> list[str]:
    """Return the names of items."""
    return [item["name"] for item in items]


def test_a_graph_is_walked_scope_by_scope(mine: Api) -> None:
    """From the whole graph down every node is met once, with counts that hold, in pages of any size."""
    path = address(mine, "big.pb")

    def below(scope: str, limit: int) -> list[str]:
        found = []
        items = mine.pages(path, {"scope": scope, "limit": limit})
        for item in items:
            assert (scope, item["name"]) == (item["scope"], (scope + "/" if scope else "") + item["label"])
            inside = below(item["name"], limit) if item["children"] else []
            assert item["nodes"] == len(inside) + (item["kind"] != "scope")
            found += inside + [item["name"]] * (item["kind"] != "scope")
        return found

    for limit in (3, 10_000):
        assert sorted([*NAMES, "__parameters__/w"]) == sorted(below("", limit))
    assert [("__parameters__", "scope", 1, 1), ("net", "scope", 40, 400)] == [
        (i["name"], i["kind"], i["children"], i["nodes"]) for i in mine.get(path)["items"]
    ]
    assert [] == mine.get(path, {"scope": NAMES[0]})["items"]


@pytest.mark.parametrize(
    ("text", "scope"), [("RELU", ""), ("op39", ""), ("relu3", "net"), ("-op", "net/conv3"), ("/", "")]
)
def test_search_finds_text_in_the_last_part(mine: Api, text: str, scope: str) -> None:
    """Upper and lower case alike, scopes too, within a scope where one is given; in pages of any size."""
    path = address(mine, "big.pb")
    every = {"__parameters__", "__parameters__/w", "net", *(name.rpartition("/")[0] for name in NAMES), *NAMES}
    expected = {name for name in every if scope == "" or name.startswith(scope + "/")}
    wanted = text.lower()
    expected = {n for n in expected if wanted in n.lower() and "/" not in n.lower().rpartition(wanted)[2]}
    assert expected or text == "/"
    for limit in (7, 1_000):
        found = names(mine.pages(path, {"search": text, "scope": scope, "limit": limit}))
        assert sorted(expected) == sorted(found)


def test_a_search_is_bounded(mine: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at so many chunks, then it says where to go on."""
    path = address(mine, "big.pb")
    expected = names(mine.get(path, {"search": "op39", "limit": 1_000})["items"])
    monkeypatch.setattr(graphs, "CHUNKS_A_PAGE", 2)
    assert [] == mine.get(path, {"search": "nothing"})["items"]
    assert mine.get(path, {"search": "nothing"})["next"]
    assert expected == names(mine.pages(path, {"search": "op39", "limit": 1_000}))


def test_a_node_is_shown_with_its_neighbours(mine: Api) -> None:
    """Inputs in their order, outputs, attributes, of a graph in the database and of one in its file."""
    path = address(mine, "big.pb").removesuffix("s")
    (item,) = mine.get(path, {"name": NAMES[7]})["items"]
    assert [("w", "__parameters__/w"), ("6", NAMES[6])] == [(i["written"], i["node"]) for i in item["inputs"]]
    assert [(NAMES[8], "T2", False)] == [(o["node"], o["type"], o["control"]) for o in item["outputs"]]
    assert ("T1", "node", "7") == (item["type"], item["kind"], item["more"]["id"])
    (item,) = mine.get(path, {"name": "__parameters__/w", "limit": 3})["items"]
    assert (3, 400, 0) == (len(item["outputs"]), item["output_count"], item["input_count"])
    (item,) = mine.get(path, {"name": "net"})["items"]
    assert ("scope", 0, []) == (item["kind"], item["input_count"], item["attributes"])
    path = address(mine, "graph_forward.pb", "mindspore:./graph").removesuffix("s")
    (item,) = mine.get(path, {"name": "Default/conv1-Conv2d/Conv2D-op0"})["items"]
    assert ("DT_TENSOR[DT_FLOAT32]", [[2, 4, 10, 10]]) == (item["data_type"], item["shape"])
    assert {"name": "kernel_size", "type": "DT_TUPLE", "value": [3, 3]} in item["attributes"]


def test_odd_names_are_names(mine: Api) -> None:
    """Several nodes of one name, one that is a scope, markup, other scripts, no name at all."""
    path = address(mine, "__run_graph__", "runs:./b")
    assert ["", "/lead", "<i>x", "a", "a", "ünï"] == names(mine.get(path)["items"])
    assert ["a/b"] == names(mine.get(path, {"scope": "a"})["items"])
    assert ["ünï/CODE"] == names(mine.get(path, {"search": "code"})["items"])
    assert 2 == len(mine.get(path.removesuffix("s"), {"name": "a"})["items"])
    for name in ("", "/lead", "<i>x", "ünï/CODE"):
        assert [name] == names(mine.get(path.removesuffix("s"), {"name": name})["items"])


@pytest.mark.parametrize(
    ("tail", "wanted", "status", "parameter"),
    [
        ("s", {"scope": "none"}, 404, "scope"),
        ("s", {"scope": "net/"}, 404, "scope"),
        ("s", {"search": ""}, 400, "search"),
        ("s", {"search": "x" * 1_001}, 400, "search"),
        ("s", {"after": "x"}, 400, "after"),
        ("s", {"limit": 0}, 400, "limit"),
        ("", {}, 400, "name"),
        ("", {"name": "none"}, 404, "name"),
        ("", {"name": "\udcff"}, 404, "name"),
        ("", {"name": "net", "limit": graphs.MAX_EDGES + 1}, 400, "limit"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(
    mine: Api, tail: str, wanted: dict[str, object], status: int, parameter: str
) -> None:
    """A parameter that cannot be right is 400, what the graph does not have is 404."""
    path = address(mine, "big.pb").removesuffix("s") + tail
    assert parameter == mine.get(path, wanted, status=status)["parameter"]


def test_what_is_no_graph_has_no_nodes(mine: Api) -> None:
    """A payload of another kind, one that could not be taken apart, none at all; a cursor of another scope."""
    (image,) = mine.get("/images", {"job": "runs:./b"})["items"]
    other = image["url"].removeprefix("/api/v1").replace("/blobs/", "/graphs/").rpartition("/")[0]
    broken = address(mine, "events.out.events.summary.1.0.x_MS")
    for path in (other + "/nodes", broken, "/graphs/999999/0/0/nodes", f"/graphs/1/{2**63}/0/nodes"):
        assert "tag" == mine.get(path, status=404)["parameter"]
    path = address(mine, "big.pb")
    following = mine.get(path, {"scope": "net", "limit": 1})["next"]
    bad = mine.get(path, {"scope": "__parameters__", "after": following}, status=400)
    assert "after" == bad["parameter"]


def test_a_scope_takes_few_statements_whatever_the_graph(mine: Api) -> None:
    """A scope of four hundred nodes' graph and one of a small one: not a chunk more is read than is shown."""
    path = address(mine, "big.pb")
    with statements(mine.reader) as sent:
        mine.get(path, {"scope": "net/conv3", "limit": 5})
    assert len(sent) <= 8


def test_nodes_are_sent_once(mine: Api) -> None:
    """Who has the answer is told so; another scope is another answer."""
    url = "/api/v1" + address(mine, "big.pb")
    answers = [mine.request(url + query) for query in ("", "?scope=net")]
    marks = [answer.headers["ETag"] for answer in answers]
    assert 2 == len(set(marks))
    again = mine.request(url, headers={"If-None-Match": marks[0]})
    assert (304, b"") == (again.status_code, again.data)
