"""What cannot be answered: each error of the specification, and whatever else a client may send."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from werkzeug.exceptions import BadRequest
from werkzeug.routing import RequestRedirect

from indexer.errors import Deadline, Refuse, Retry, Wait
from tests.mindinsight.conftest import Client
from tests.support.mindinsight import PREFIX
from webapi.app import create_app
from webapi.mindinsight.answers import failed
from webapi.mindinsight.routes import GET, WRITTEN

SCALARS, HISTOGRAMS, IMAGES, TENSORS, GRAPH = "./scalars", "./histograms", "./images", "./tensors", "./graph"
LINEAGE, EXPLAIN, LANDSCAPE = "./lineage-adam-0.01", "./explain-saliency", "./landscape"
JOB, PAGE, VALUE, TYPE, MISSING = "50545005", "50540002", "50540002", "50540001", "50540003"
TENSOR = {"train_id": TENSORS, "tag": "rank2/3x4/tensor"}
SLICE = {**TENSOR, "detail": "data", "step": 0}

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("/datavisual/train-jobs", {"offset": -1}, PAGE),
    ("/datavisual/train-jobs", {"limit": 1000}, PAGE),
    ("/datavisual/train-jobs", {"limit": ""}, TYPE),
    ("/datavisual/train-jobs", {"limit": "1.0"}, TYPE),
    ("/datavisual/train-jobs", {"train_id": "./x", "limit": 0}, PAGE),
    ("/datavisual/plugins", {}, MISSING),
    ("/datavisual/plugins", {"train_id": ""}, MISSING),
    ("/datavisual/plugins", {"train_id": "./a\0"}, "50545011"),
    ("/datavisual/plugins", {"train_id": "./.."}, JOB),
    ("/datavisual/plugins", {"train_id": "./..", "manual_update": "true"}, JOB),
    ("/datavisual/plugins", {"train_id": SCALARS, "manual_update": "yes"}, VALUE),
    ("/datavisual/plugins", {"train_id": EXPLAIN}, JOB),
    ("/datavisual/single-job", {"train_id": "", "plugin_name": ""}, MISSING),
    ("/datavisual/single-job", {"train_id": "./none", "plugin_name": "none"}, "5054500B"),
    ("/datavisual/single-job", {"train_id": "./none", "plugin_name": "image"}, JOB),
    ("/datavisual/single-job", {"train_id": "./lineage-only", "plugin_name": "image"}, JOB),
    ("/datavisual/scalar/metadata", {"train_id": SCALARS}, MISSING),
    ("/datavisual/scalar/metadata", {"train_id": SCALARS, "tag": "none"}, "5054500E"),
    ("/datavisual/scalar/metadata", {"train_id": "./lineage-only", "tag": "none"}, JOB),
    ("/datavisual/scalar/metadata", {"train_id": GRAPH, "tag": "graph_forward.pb (optimized)"}, TYPE),
    ("/datavisual/image/metadata", {"train_id": IMAGES, "tag": "none"}, "5054500D"),
    ("/datavisual/image/metadata", {"train_id": SCALARS, "tag": "loss/scalar"}, "5054500D"),
    ("/datavisual/image/single-image", {"train_id": IMAGES, "tag": "gray/8x8/u8/image"}, MISSING),
    ("/datavisual/image/single-image", {"train_id": IMAGES, "tag": "gray/8x8/u8/image", "step": "1.0"}, TYPE),
    ("/datavisual/image/single-image", {"train_id": IMAGES, "tag": "gray/8x8/u8/image", "step": 10**30}, "5054500D"),
    ("/datavisual/image/single-image", {"train_id": IMAGES, "tag": "gray/8x8/u8/image", "step": -2}, "5054500D"),
    ("/datavisual/histograms", {"train_id": HISTOGRAMS}, MISSING),
    ("/datavisual/histograms", {"train_id": HISTOGRAMS, "tag": "none"}, "5054500F"),
    ("/datavisual/histograms", {"train_id": SCALARS, "tag": "loss/scalar"}, "5054500F"),
    ("/datavisual/tensors", {"tag": "x"}, MISSING),
    ("/datavisual/tensors", {"train_id": TENSORS}, MISSING),
    ("/datavisual/tensors", {**TENSOR, "detail": "Data"}, VALUE),
    ("/datavisual/tensors", {"train_id": TENSORS, "tag": ["rank2/3x4/tensor", "none"]}, "50545012"),
    ("/datavisual/tensors", {"train_id": [TENSORS, "./none"], "tag": "rank2/3x4/tensor"}, JOB),
    ("/datavisual/tensors", {**TENSOR, "detail": "data"}, MISSING),
    ("/datavisual/tensors", {**TENSOR, "detail": "data", "step": 1}, MISSING),
    ("/datavisual/tensors", {**SLICE, "step": "x", "dims": "[:, :]"}, TYPE),
    ("/datavisual/tensors", {**SLICE, "step": "x", "dims": "none"}, VALUE),
    ("/datavisual/tensors", {**SLICE, "step": 7, "dims": "[:, :]"}, "50545014"),
    *(
        ("/datavisual/tensors", {**SLICE, "dims": dims}, VALUE)
        for dims in (
            ":, :", "[", "]", "[:]", "[0]", "[:, :, :]", "[x, 0]", "[3, 0]", "[0, -5]", "[0:1:1:1, 0]", "[::0, 0]",
            "[,]", "[0,]", f"[{'9' * 5000}, 0]", "[١:x, 0]",
        )
    ),
    ("/datavisual/graphs/nodes", {"mode": "none"}, VALUE),
    ("/datavisual/graphs/nodes", {"mode": ""}, VALUE),
    ("/datavisual/graphs/nodes", {"train_id": SCALARS}, "5054500C"),
    ("/datavisual/graphs/nodes", {"train_id": GRAPH, "tag": "none"}, "5054500C"),
    ("/datavisual/graphs/nodes", {"train_id": GRAPH, "tag": "graph_forward.pb", "mode": "optimize"}, "5054500C"),
    ("/datavisual/graphs/nodes", {"train_id": GRAPH, "name": "none"}, "50545009"),
    ("/datavisual/graphs/nodes/all", {"train_id": GRAPH, "name": "none"}, "50545009"),
    ("/datavisual/graphs/nodes/names", {"train_id": GRAPH, "limit": 1001}, PAGE),
    ("/datavisual/graphs/single-node", {"train_id": GRAPH}, MISSING),
    ("/datavisual/graphs/single-node", {"train_id": GRAPH, "name": "none"}, "50545009"),
    ("/datavisual/landscape/intervals", {}, MISSING),
    ("/datavisual/landscape/intervals", {"train_id": "./lineage-only"}, JOB),
    ("/datavisual/landscape/landscapes", {"train_id": "./none"}, JOB),
    ("/datasets/dataset_graph", {}, MISSING),
    ("/datasets/dataset_graph", {"train_id": "none"}, VALUE),
    ("/explainer/explain-jobs", {"limit": 1000}, PAGE),
    ("/explainer/explain-job", {}, MISSING),
    ("/explainer/explain-job", {"train_id": "./none"}, JOB),
    ("/explainer/evaluation", {"train_id": "./none"}, JOB),
    ("/explainer/image", {"path": "x", "type": "original"}, MISSING),
    ("/explainer/image", {"train_id": EXPLAIN, "type": "original"}, MISSING),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "x"}, MISSING),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "x", "type": "none"}, VALUE),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "x", "type": "original"}, "5054500D"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "../../x", "type": "original"}, "50540008"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "/etc/passwd", "type": "original"}, "50540008"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "../../mindspore-2/x", "type": "original"}, "50540008"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "a\0b", "type": "original"}, "5054500D"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "_explain_1700000100", "type": "original"}, "5054500D"),
    ("/explainer/image", {"train_id": EXPLAIN, "path": "_explain_1700000100/manifest.json", "type": "original"},
     "5054500D"),
    ("/explainer/image", {"train_id": "./explain-hoc", "path": "0_none_0.jpg", "type": "outcome"}, "5054500D"),
    ("/explainer/image", {"train_id": "./explain-hoc", "path": "0_a_9.jpg", "type": "outcome"}, "5054500D"),
    ("/explainer/image", {"train_id": "./explain-hoc", "path": "99999999999_a_0.jpg", "type": "outcome"}, "5054500D"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query", "code"), CASES, ids=[f"{n}{c[0]}" for n, c in enumerate(CASES)])
def test_each_mistake_has_its_code(recorded: Client, path: str, query: dict[str, Any], code: str) -> None:
    """A request that cannot be answered is answered with HTTP 400 and the code of the specification."""
    assert code == recorded.error(path, **query)


BODIES: list[tuple[str, Any, str]] = [
    ("/datavisual/train-job-caches", [], MISSING),
    ("/datavisual/train-job-caches", {"train_ids": "./x"}, TYPE),
    ("/datavisual/train-job-caches", {"train_ids": ["./x", 1]}, TYPE),
    ("/lineagemgr/lineages", 1, "50542218"),
    ("/lineagemgr/lineages", {"offset": 100_001}, "50542218"),
    ("/lineagemgr/lineages", {"limit": True}, "50542218"),
    ("/lineagemgr/lineages", {"sorted_type": None}, "50542218"),
    ("/lineagemgr/lineages", {"sorted_name": "user_defined/"}, "50542218"),
    ("/lineagemgr/lineages", {"lineage_type": {"not_in": ["model"]}}, "50542218"),
    ("/lineagemgr/lineages", {"lineage_type": {"in": "model"}}, "50542218"),
    ("/lineagemgr/lineages", {"epoch": {"not_in": 1}}, "50542218"),
    ("/lineagemgr/lineages", {"loss": {"eq": True}}, "50542218"),
    ("/lineagemgr/lineages", {"dataset_mark": {"lt": "2"}}, "50542218"),
    ("/explainer/saliency", [], VALUE),
    ("/explainer/saliency", {"train_id": 1}, TYPE),
    ("/explainer/saliency", {"train_id": EXPLAIN, "explainers": {}}, TYPE),
    ("/explainer/hoc", {"train_id": EXPLAIN, "offset": [1]}, TYPE),
    ("/explainer/hoc", {"train_id": EXPLAIN, "sorted_name": None}, VALUE),
    ("/explainer/hoc", {"train_id": EXPLAIN, "sorted_type": []}, VALUE),
    ("/explainer/hoc", {"train_id": EXPLAIN, "prediction_types": [["TP"]]}, VALUE),
]


@pytest.mark.parametrize(("path", "body", "code"), BODIES)
def test_each_mistake_in_a_body_has_its_code(recorded: Client, path: str, body: Any, code: str) -> None:
    """A body that cannot be right is answered with HTTP 400 and the code of the specification."""
    assert code == recorded.post(path, body, status=400)["error_code"]


@pytest.mark.parametrize(
    ("train_id", "body", "status", "code"),
    [
        (LINEAGE, {"tag": 1}, 403, "50540008"),
        (LINEAGE, {"tag": True, "remark": ""}, 403, "50540008"),
        (LINEAGE, {}, 403, "50540008"),
        (LINEAGE, {"tag": 11}, 400, "50542081"),
        (LINEAGE, {"tag": 1.0}, 400, "50542081"),
        (LINEAGE, {"remark": "x" * 129}, 400, "50542081"),
        (LINEAGE, {"alias": "x"}, 400, "50542081"),
        ("./none", {"tag": 11}, 400, "50542081"),
        ("./none", {"tag": 1}, 400, JOB),
        ("none", {"tag": 11}, 400, VALUE),
        ("./a/b", {"tag": 1}, 400, VALUE),
        (SCALARS, {"tag": 1}, 400, VALUE),
        (LINEAGE, "tag", 400, VALUE),
    ],
)
def test_annotations_are_checked_and_then_refused(
    recorded: Client, train_id: str, body: Any, status: int, code: str
) -> None:
    """A PUT keeps the original's errors in their order; only one that it would have taken is refused as read-only."""
    path = "/lineagemgr/lineages?" + urlencode({"train_id": train_id})
    assert code == recorded.post(path, body, status=status, method="PUT")["error_code"]


def test_bodies_must_say_what_they_are(recorded: Client) -> None:
    """Where the original wants a content type, a body without one is refused; elsewhere it is read all the same."""
    client = recorded.app.test_client()
    data = json.dumps({"train_ids": []}).encode()
    assert 400 == client.post(f"{PREFIX}/datavisual/train-job-caches", data=data).status_code
    assert 400 == client.put(f"{PREFIX}/lineagemgr/lineages?train_id=./x", data=b"{}").status_code
    assert 200 == client.post(f"{PREFIX}/lineagemgr/lineages", data=b"{}").status_code
    assert 400 == client.post(f"{PREFIX}/lineagemgr/lineages", data=b"[" * 100_000).status_code


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/datavisual/train-jobs", "/none", ""])
def test_other_methods_are_refused_everywhere(recorded: Client, method: str, path: str) -> None:
    """Only GET, POST, PUT and DELETE are let in, whatever the path."""
    status, _, body = recorded.send(method, f"{PREFIX}{path}")
    assert 405 == status
    assert method == "HEAD" or json.loads(body)["error_code"] == "50545002"


@pytest.mark.parametrize(
    "path", ["", "/", "/none", "/datavisual/train-jobs/", "//datavisual/train-jobs", "/ui-config/"]
)
def test_other_paths_are_unknown_in_its_own_words(recorded: Client, path: str) -> None:
    """Below the prefix an unknown path has MindInsight's body; beside it ours."""
    status, _, body = recorded.send("GET", f"{PREFIX}{path}")
    assert (404, "50545001") == (status, json.loads(body)["error_code"])
    beside = recorded.app.test_client().get("/v1/mindinsightful")
    assert "application/problem+json" == beside.content_type


def test_another_hosts_name_is_refused_in_its_own_words(recorded: Client) -> None:
    """A foreign Host header meets MindInsight's error body below its prefix."""
    answer = recorded.app.test_client().get(f"{PREFIX}/ui-config", headers={"Host": "elsewhere.example"})
    assert (403, "50540008") == (answer.status_code, answer.get_json()["error_code"])


def test_a_token_is_asked_for_in_its_own_words(recorded: Client) -> None:
    """Where the web wants a token, so do these routes; with it they answer, and pictures are below the prefix."""
    config = replace(recorded.config, token="secret", url_prefix="/up")
    client = create_app(config, recorded.reader).test_client()
    answer = client.get(f"{PREFIX}/ui-config")
    assert (401, "50540008") == (answer.status_code, answer.get_json()["error_code"])
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    sent = {"Authorization": "Bearer secret"}
    assert {"enable_debugger": False} == client.get(f"/up{PREFIX}/ui-config", headers=sent).get_json()
    found = client.post(f"{PREFIX}/explainer/saliency", json={"train_id": EXPLAIN}, headers=sent).get_json()
    assert found["samples"][0]["image"].startswith(f"/up{PREFIX}/explainer/image?")


def test_the_page_below_mindinsight_finds_the_routes(recorded: Client) -> None:
    """The routes answer below /mindinsight, too; the page puts its own address before those of pictures in answers."""
    status, _, body = recorded.send("GET", f"/mindinsight{PREFIX}/ui-config")
    assert (200, {"enable_debugger": False}) == (status, json.loads(body))
    _, _, body = recorded.send(
        "POST", f"/mindinsight{PREFIX}/explainer/saliency", b'{"train_id": "./explain-saliency"}'
    )
    assert json.loads(body)["samples"][0]["image"].startswith(f"{PREFIX}/explainer/image?")


def test_the_page_is_told_in_its_words_that_nothing_is_stored(recorded: Client) -> None:
    """Its own code for what the web does not do: others it takes for a success. Elsewhere the code is as documented."""
    codes = []
    for base in (PREFIX, f"/mindinsight{PREFIX}"):
        path = f"{base}/lineagemgr/lineages?train_id=./lineage-sgd-0.001"
        status, _, body = recorded.send("PUT", path, b'{"remark": "good"}')
        assert 403 == status
        codes.append(json.loads(body)["error_code"])
    assert ["50540008", "50545002"] == codes


def test_a_database_that_was_never_filled_is_loading(client: Client, engine: Engine) -> None:
    """Before the first look at any directory ends, lists are empty and what names a job is told to wait."""
    empty = {"name": "", "total": 0, "train_jobs": [], "load_status": "init"}
    assert empty == client.get("/datavisual/train-jobs")
    assert "50545007" == client.error("/datavisual/plugins", train_id="./a")
    assert "50545007" == client.error("/datavisual/scalar/metadata", train_id="./a", tag="x")
    assert "50545007" == client.error("/explainer/explain-job", train_id="./a")
    assert {"customized": {}, "object": [], "count": 0} == client.post("/lineagemgr/lineages", {})


NAMES = [
    *("train_id", "tag", "offset", "limit", "step", "dims", "detail", "name", "search", "mode", "path", "type"),
    *("plugin_name", "manual_update", "interval_id"),
]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Deadline("too long"), 504, "50540000"),
        (Retry("busy"), 503, "50540000"),
        (Wait("away"), 503, "50540000"),
        (Refuse("old schema"), 503, "50540000"),
        (RuntimeError("a defect"), 500, "50540000"),
        (BadRequest(), 400, "50540000"),
        (RequestRedirect("/elsewhere"), 404, "50545001"),
    ],
)
def test_what_is_not_the_clients_fault_has_its_body_too(error: Exception, status: int, code: str) -> None:
    """Deadlines, a database that is away, and defects: MindInsight's body under the status of the rest."""
    answer = failed(error, "/v1/mindinsight/x")
    assert (status, code) == (answer.status_code, json.loads(answer.get_data())["error_code"])


WORDS = [
    *("./", "./..", "./../..", "../", "/", ".", "./scalars", "./tensors", "./graph", "./explain-hoc", "%2E%2F", "./\0"),
    *(".%252Fscalars", "\ud800", "9" * 400, "-" + "9" * 30, "1e9", "NaN", "[:, :]", "[0, 0]", "data", "stats", "./a/b"),
    *("histogram", "optimize", "interval", "final", "original", "overlay", "outcome", "0_a_0.jpg", "loss/scalar"),
    *("rank2/3x4/tensor", "'; DROP TABLE jobs; --", "%", "_", "\x1b", "␛00", "true", ""),
]
NASTY = st.one_of(st.sampled_from(WORDS), st.text(max_size=20))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(sorted(GET)), query=st.lists(st.tuples(st.sampled_from(NAMES), NASTY), max_size=6))
def test_no_query_string_is_a_defect(recorded: Client, path: str, query: list[tuple[str, str]]) -> None:
    """Whatever a query string says, the answer is data or MindInsight's error, never a defect of ours."""
    text = "&".join(f"{name}={quote(value, errors='surrogatepass')}" for name, value in query)
    status, headers, body = recorded.send("GET", f"{PREFIX}{path}?{text}")
    assert status in {200, 400}
    if status == 400:
        assert {"error_code", "error_msg"} == set(json.loads(body))
    elif headers["Content-Type"] == "application/json":
        json.loads(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | NASTY,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["train_id", "labels", "limit", "offset", "sorted_name", "sorted_type", "eq", "in", "gt", "loss"]
            )
            | st.sampled_from(
                ["summary_dir", "metric/loss", "user_defined/x", "lineage_type", "train_ids", "drop_empty"]
            )
            | st.sampled_from(["prediction_types", "explainers", "tag", "remark"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(route=st.sampled_from(sorted(WRITTEN)), body=JSON, train_id=NASTY)
def test_no_body_is_a_defect(recorded: Client, route: tuple[str, str], body: Any, train_id: str) -> None:
    """Whatever a body says, the answer is data or MindInsight's error."""
    method, path = route
    asked = f"{PREFIX}{path}?train_id={quote(train_id, errors='surrogatepass')}"
    status, _, answer = recorded.send(method, asked, json.dumps(body).encode())
    assert status in {200, 400, 403}
    assert status == 200 or {"error_code", "error_msg"} == set(json.loads(answer))


def test_every_route_takes_every_spelling_of_an_id(recorded: Client) -> None:
    """Quoted, not quoted, or quoted twice, an id is the same job."""
    for spelled in ("./scalars", ".%2Fscalars", "%2E%2Fscalars", ".%252Fscalars"):
        status, _, body = recorded.send("GET", f"{PREFIX}/datavisual/plugins?train_id={spelled}")
        assert 200 == status
        assert json.loads(body)["plugins"]["scalar"]


@pytest.mark.parametrize(
    ("name", "text"), list(itertools.product(("offset", "limit"), ("1", " 1 ", "+1", "0_1", "１")))
)
def test_integers_are_what_python_takes_for_some(recorded: Client, name: str, text: str) -> None:
    """Blanks around, signs, underscores between digits and other scripts' digits are taken."""
    query: dict[str, Any] = {name: text}
    assert recorded.get("/datavisual/train-jobs", **query)["train_jobs"]


def test_a_page_far_behind_the_end_is_empty(recorded: Client) -> None:
    """However far: the list is empty, the total is right."""
    for offset in (2**31, 2**63 - 1, 10**400):
        assert (21, []) == tuple(
            recorded.get("/datavisual/train-jobs", offset=offset, limit=999)[name] for name in ("total", "train_jobs")
        )
        assert [] == recorded.get("/explainer/explain-jobs", offset=offset)["explain_jobs"]
        found = recorded.get("/datavisual/graphs/nodes/names", train_id=GRAPH, search="e", offset=offset)
        assert [] == found["nodes"]
