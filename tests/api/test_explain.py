"""Explain files and landscapes over REST: lists, one sample, bytes, what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from indexer.config import Config
from indexer.db.engine import open_engine, open_reader
from indexer.payload import OCTETS
from tests.api.conftest import Api
from tests.conftest import DATA, Backend
from tests.db.test_truth import number, truth
from tests.support.explaining import benchmark, hoc, inference, metadata, saliency, sample
from tests.support.following import SMALL, Follower, make
from tests.support.records import frame, png
from tests.support.statements import statements
from webapi import explain, explained

SALIENCY, HOC = "./explain-saliency", "./explain-hoc"
OLD, NEW = (f"events.out.events.summary.{stamp}.0.x_explain" for stamp in (100, 200))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Backend, Api]]:
    """Databases with MindSpore's sample data, one a backend, made when first asked for."""
    made: dict[Backend, Api] = {}
    yield made
    for api in made.values():
        api.reader.dispose()


@pytest.fixture
def samples(request: pytest.FixtureRequest, backend: Backend, loaded: dict[Backend, Api]) -> Api:
    """The API over the sample data."""
    if backend not in loaded:
        if backend == "sqlite":
            path = request.getfixturevalue("tmp_path_factory").mktemp("explain") / "samples.db"
            path.write_bytes(request.getfixturevalue("sqlite_template").read_bytes())
            url = f"sqlite:///{path}"
        else:
            url = request.getfixturevalue("postgres").create(template=request.getfixturevalue("postgres_template"))
        writer = open_engine(url)
        Follower(writer, DATA / "mindspore").scan()
        writer.dispose()
        loaded[backend] = Api.over(Config(url=url, query_seconds=20.0), open_reader(url))
    return loaded[backend]


def explanations(job: str) -> list[dict[str, Any]]:
    """Return the truth of a job's explain records."""
    found: list[dict[str, Any]] = truth("mindspore")[job]["explain"]
    return found


def test_samples_are_those_of_the_truth(samples: Api) -> None:
    """Each sample with its labels by name and what the network thinks of them; its image comes byte for byte."""
    wanted = explanations(SALIENCY)
    labels = wanted[0]["metadata"]["label"]
    images = json.loads((DATA / "truth" / "TRUTH.json").read_text())["mindspore"]["explain_files"]
    items = samples.get("/explain", {"job": SALIENCY})["items"]
    named = [r for r in wanted if "image_path" in r]
    assert [r["sample_id"] for r in named] == [item["ordinal"] for item in items]
    for r, item in zip(named, items, strict=True):
        assert r["image_path"] == item["metadata"]["image_path"]
        assert [labels[i] for i in r["ground_truth_label"]] == item["metadata"]["ground_truth"]
        (said,) = (x["inference"] for x in wanted if "inference" in x and x["sample_id"] == r["sample_id"])
        predicted = [t for t in item["inferences"] if t["role"] == "predicted"]
        assert said["predicted_label"] == [t["label"] for t in predicted]
        assert [number(p) for p in said["predicted_prob"]] == [t["probability"] for t in predicted]
        answer = samples.request(item["url"])
        assert "image/jpeg" == answer.content_type
        kept = images[f"explain-saliency/{r['image_path']}"]
        assert (kept["sha256"], kept["bytes"]) == (hashlib.sha256(answer.data).hexdigest(), len(answer.data))
        assert (SALIENCY, "explain", True) == (item["train_id"], item["plugin"], item["latest"])


def test_saliency_maps_are_bytes_by_address(samples: Api) -> None:
    """A sample names its maps in the order of the file, and each address gives the bytes of the file it is for."""
    items = samples.get("/explain", {"job": SALIENCY})["items"]
    for item in items:
        detail = samples.get(item["detail"].removeprefix("/api/v1"))
        expected = [
            (x["explain_method"], x["label"], x["heatmap_path"])
            for r in explanations(SALIENCY)
            if r.get("sample_id") == item["ordinal"]
            for x in r.get("explanation", [])
        ]
        assert expected == [(m["explainer"], m["label"], m["path"]) for m in detail["saliency_maps"]]
        for found in detail["saliency_maps"]:
            path = DATA / "mindspore" / "explain-saliency" / found["path"]
            assert path.read_bytes() == samples.request(found["url"]).data
        assert (False, []) == (detail["truncated"], detail["hoc"])


def test_occlusion_and_uncertainty_are_shown(samples: Api) -> None:
    """Layers with their boxes, and the deviation and interval of each probability."""
    (item, *_) = samples.get("/explain", {"job": HOC})["items"]
    detail = samples.get(item["detail"].removeprefix("/api/v1"))
    (expected,) = (r["hoc"] for r in explanations(HOC) if "hoc" in r and r["sample_id"] == item["ordinal"])
    assert [
        (expected[0]["label"], i, layer["prob"], [layer["box"]]) for i, layer in enumerate(expected[0]["layer"])
    ] == [(layer["label"], layer["layer"], layer["probability"], layer["boxes"]) for layer in detail["hoc"]]
    (said,) = (r["inference"] for r in explanations(HOC) if "inference" in r and r["sample_id"] == item["ordinal"])
    truth_, *_ = detail["inferences"]
    assert [said[f"ground_truth_prob{s}"][0] for s in ("", "_sd", "_itl95_low", "_itl95_hi")] == [
        truth_[name] for name in ("probability", "sd", "low", "high")
    ]


def test_files_say_what_mindinsight_asks_for(samples: Api) -> None:
    """Labels, explainers, metrics, scores, status, manifest, and how far a job is loaded."""
    items = {item["train_id"]: item for item in samples.get("/explain/files")["items"]}
    assert {SALIENCY, HOC} == items.keys()
    file = items[SALIENCY]
    assert ("CACHED", "run", True, False, False, 6, 3) == tuple(
        file[n] for n in ("cache_status", "status", "saliency", "hoc", "uncertainty", "sample_count", "label_count")
    )
    assert {"saliency_map": True, "hierarchical_occlusion": False} == file["manifest"]
    detail = samples.get(file["url"].removeprefix("/api/v1"))
    said = explanations(SALIENCY)[0]["metadata"]
    assert said["label"] == [entry["name"] for entry in detail["labels"]]
    assert (said["explain_method"], said["benchmark_method"]) == (detail["explainers"], detail["metrics"])
    expected = [
        (b["explain_method"], b["benchmark_method"], label, score)
        for r in explanations(SALIENCY)
        for b in r.get("benchmark", [])
        for label, score in [(None, b["total_score"]), *enumerate(b["label_score"])]
    ]
    assert expected == [(s["explainer"], s["metric"], s["label"], s["score"]) for s in detail["scores"]]
    assert ([], False) == (detail["errors"], detail["truncated"])


def test_records_come_out_as_written(samples: Api) -> None:
    """The payload behind an address is the one at its offset in the file; all pages hold every record once."""
    records = samples.pages("/explain/records", {"limit": 7, "job": HOC})
    (path,) = (DATA / "mindspore" / HOC).glob("*_explain")
    whole = path.read_bytes()
    for item in records:
        answer = samples.request(item["url"])
        assert OCTETS == answer.content_type
        assert frame(answer.data) == whole[item["offset"] : item["offset"] + item["bytes"] + 16]
    assert len(explanations(HOC)) == len({item["offset"] for item in records}) == len(records)


@pytest.mark.parametrize("path", ["/explain", "/explain/files", "/explain/records"])
def test_pages_are_the_whole_list(samples: Api, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items a page has, and over however few files a page looks, all pages hold every item once."""
    expected = samples.get(path, {"limit": 10_000})["items"]
    assert len(expected) >= 2
    assert expected == samples.pages(path, {"limit": 1})
    monkeypatch.setattr(explained, "FILES_A_PAGE", 1)
    assert expected == samples.pages(path, {"limit": 3})


def test_a_list_takes_the_same_statements_whatever_its_length(samples: Api) -> None:
    """One sample or all: as many statements."""
    counts = []
    for limit in (1, 100):
        with statements(samples.reader) as sent:
            samples.get("/explain", {"limit": limit})
        counts.append(len(sent))
    assert counts[0] == counts[1]


def test_samples_are_filtered(samples: Api) -> None:
    """By label, step and file; what nobody has is a 404."""
    with_dog = [
        i for i in samples.get("/explain", {"job": SALIENCY})["items"] if "dog" in {t["name"] for t in i["inferences"]}
    ]
    assert 0 < len(with_dog) < 6
    assert with_dog == samples.get("/explain", {"job": SALIENCY, "label": "dog"})["items"]
    assert [] == samples.get("/explain", {"label": "cow"})["items"]
    assert [] == samples.get("/explain", {"from_step": 1})["items"]
    assert [] == samples.get("/explain", {"to_step": -1})["items"]
    name = with_dog[0]["tag"]
    assert 6 == len(samples.get("/explain", {"tag": name, "from_step": 0, "to_step": 0})["items"])
    for path in ("/explain", "/explain/records"):
        assert "tag" == samples.get(path, {"tag": "none"}, status=404)["parameter"]
        assert "job" == samples.get(path, {"job": "./none"}, status=404)["parameter"]


@pytest.mark.parametrize(
    "path",
    [
        "/explain/files/999999", f"/explain/files/{2**31}", "/explain/999999/0", f"/explain/1/{2**31}",
        f"/explain/1/-{2**31 + 1}/image", "/explain/records/1/1", f"/explain/records/1/{2**63}",
    ],
)  # fmt: skip
def test_what_is_not_there_is_404(samples: Api, path: str) -> None:
    """Numbers that nobody has, and those that no database holds."""
    samples.get(path, status=404)


def test_a_list_leaves_out_what_is_too_much(samples: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inferences that do not fit are null in a list; one sample says that it is cut."""
    monkeypatch.setattr(explain, "INFERENCES_A_PAGE", 7)
    items = samples.get("/explain", {"job": SALIENCY})["items"]
    shown = [item["inferences"] for item in items]
    assert None in shown
    assert shown[0] is not None
    assert sum(len(some) for some in shown if some is not None) <= 7
    monkeypatch.setattr(explain, "MOST", 1)
    detail = samples.get(items[0]["detail"].removeprefix("/api/v1"))
    assert (True, 1, None) == (detail["truncated"], len(detail["saliency_maps"]), detail["inferences"])


# Files of the test's own ----------------------------------------------------------------------------------------------
@pytest.fixture
def mine(engine: Engine, url: str, tmp_path: Path) -> Iterator[tuple[Api, Path]]:
    """The API over two explain files of one job, and the directory of the job."""
    outside = tmp_path / "outside.png"
    outside.write_bytes(png(9, 9))
    images = ["in.png", "../outside.png", str(outside), "link.png", "text.txt", "gone.png", "pipe", "..", "nul\0"]
    root = make(
        tmp_path / "runs",
        {
            f"a/{OLD}": metadata(["<b>"]) + sample(1, "in.png", [0]),
            f"a/{NEW}": sample(5, "early.png")
            + metadata(["<b>"], ["G&H", "caf␛"], ["F"])
            + b"".join(sample(n, path, [0]) for n, path in enumerate(images))
            + inference(0, [0], [float("nan")], [float("inf")])
            + saliency(0, "G&H", 0, "in.png")
            + saliency(0, "caf␛", 7, "../outside.png")
            + hoc(0, 0, (0.5, [1, 2, 3, 4]))
            + benchmark("G&H", "F", float("nan"), [1.0])
            + sample(99, "long/" + "x" * 400),
            "a/in.png": png(3, 3),
            "a/text.txt": b"secret",
        },
    )
    (root / "a" / "link.png").symlink_to(outside)
    os.mkfifo(root / "a" / "pipe")
    Follower(engine, root, config=SMALL.__class__(url=url, kernel=False, slice_bytes=2**16, max_blob_bytes=300)).scan()
    reader = open_reader(url)
    yield Api.over(Config(url=url, query_seconds=5.0), reader), root / "a"
    reader.dispose()


def test_images_come_from_the_directory_of_the_job_alone(mine: tuple[Api, Path]) -> None:
    """Paths that lead out of it, by dots, from the root or over a link, pipes, texts and what is gone are 404."""
    api, _ = mine
    items = api.get("/explain")["items"]
    answers = {item["metadata"]["image_path"]: api.request(item["url"]) for item in items}
    assert {"in.png": 200} == {path: a.status_code for path, a in answers.items() if a.status_code != 404}
    assert ("image/png", png(3, 3)) == (answers["in.png"].content_type, answers["in.png"].data)
    (item,) = (item for item in items if item["ordinal"] == 0)
    statuses = [
        api.request(m["url"]).status_code for m in api.get(item["detail"].removeprefix("/api/v1"))["saliency_maps"]
    ]
    assert [200, 404] == statuses


def test_an_image_is_sent_once(mine: tuple[Api, Path]) -> None:
    """The entity tag of an image is of its file: who has it is told so, until the file changes."""
    api, directory = mine
    (item,) = (item for item in api.get("/explain")["items"] if item["ordinal"] == 0)
    answer = api.request(item["url"])
    again = {"If-None-Match": answer.headers["ETag"]}
    assert (304, b"") == ((found := api.request(item["url"], headers=again)).status_code, found.data)
    assert answer.headers["Content-Security-Policy"] == found.headers["Content-Security-Policy"]
    head = api.request(item["url"], method="HEAD")
    assert (200, b"", str(len(answer.data))) == (head.status_code, head.data, head.headers["Content-Length"])
    (directory / "in.png").write_bytes(png(4, 4))
    assert png(4, 4) == api.request(item["url"], headers=again).data


def test_only_the_latest_file_is_shown_unless_all_are_asked_for(mine: tuple[Api, Path]) -> None:
    """Rows of older files are there, and say that they are not the latest."""
    api, _ = mine
    assert [(NEW, True)] == [(f["tag"], f["latest"]) for f in api.get("/explain/files")["items"]]
    assert {NEW} == {item["tag"] for item in api.get("/explain")["items"]}
    every = api.get("/explain/files", {"files": "all"})["items"]
    assert {(OLD, False), (NEW, True)} == {(f["tag"], f["latest"]) for f in every}
    assert [1] == [i["ordinal"] for i in api.get("/explain", {"files": "all", "tag": OLD})["items"]]
    assert [] == api.get("/explain", {"tag": OLD})["items"]


def test_what_is_wrong_is_shown(mine: tuple[Api, Path]) -> None:
    """A record that does not count is listed with the reason and its bytes; one too long comes from its file."""
    api, directory = mine
    (file,) = api.get("/explain/files")["items"]
    detail = api.get(file["url"].removeprefix("/api/v1"))
    wrong = api.get("/explain/records", {"errors": "only"})["items"]
    assert [(item["offset"], item["error"]) for item in wrong] == [(e["offset"], e["reason"]) for e in detail["errors"]]
    assert ["before the metadata" in item["error"] for item in wrong] == [True, False]
    assert ["database", "file"] == [item["stored"] for item in wrong]
    whole = (directory / NEW).read_bytes()
    for item in wrong:
        assert frame(api.request(item["url"]).data) == whole[item["offset"] : item["offset"] + item["bytes"] + 16]
    (directory / NEW).write_bytes(whole[:-1])
    assert 404 == api.request(wrong[1]["url"]).status_code
    (directory / NEW).unlink()
    assert 404 == api.request(wrong[1]["url"]).status_code
    assert 200 == api.request(wrong[0]["url"]).status_code


def test_numbers_that_are_none_are_strict_json(mine: tuple[Api, Path]) -> None:
    """A score that is NaN is a string, a probability that is NaN null, an infinite one a string."""
    api, _ = mine
    (file,) = api.get("/explain/files")["items"]
    scores = api.get(file["url"].removeprefix("/api/v1"))["scores"]
    assert ["NaN", 1.0] == [s["score"] for s in scores]
    (item,) = (item for item in api.get("/explain")["items"] if item["ordinal"] == 0)
    assert ["Infinity", None] == [t["probability"] for t in item["inferences"]]


@pytest.mark.parametrize(("wanted", "name"), [({"label": 0}, "explainer"), ({"explainer": "G"}, "label")])
def test_a_map_needs_both_names(mine: tuple[Api, Path], wanted: dict[str, object], name: str) -> None:
    """A map is of a label by an explainer; one that nobody made is 404."""
    api, _ = mine
    (file,) = api.get("/explain/files")["items"]
    path = f"/explain/{file['file']}/0/saliency"
    assert name == api.get(path, wanted, status=400)["parameter"]
    api.get(path, {"label": 0, "explainer": "nobody"}, status=404)


# Landscapes -----------------------------------------------------------------------------------------------------------
def test_landscapes_are_those_of_the_truth(samples: Api) -> None:
    """Surface, path and convergence point in their shapes; the bytes are the arrays, one behind the other."""
    series = [s for s in truth("mindspore")["./landscape"]["series"] if s["kind"] == "loss_landscape"]
    items = {item["tag"]: item for item in samples.get("/landscapes", {"job": "./landscape"})["items"]}
    assert {s["tag"] for s in series} == items.keys()
    for s in series:
        item, wanted = items[s["tag"]], s["first"]
        z = [number(v) for v in wanted["landscape"]["z"]["values"]]
        assert z == [v for row in item["landscape"]["z"] for v in row]
        assert wanted["landscape"]["z"]["dims"] == [len(item["landscape"]["z"]), len(item["landscape"]["z"][0])]
        for axis in ("x", "y"):
            assert [number(v) for v in wanted["landscape"][axis]["values"]] == item["landscape"][axis]
            assert [number(v) for v in wanted["convergence"][axis]["values"]] == item["convergence_point"][axis]
        assert ("interval" if wanted["intervals"] else "final") == item["metadata"]["type"]
        data = samples.request(item["url"]).data
        assert [*item["landscape"]["x"], *item["landscape"]["y"], *z] == list(
            struct.unpack_from(f"<{2 * 8 + 64}d", data)
        )
        whole = json.loads(samples.request(item["url"] + "?form=json").data)
        assert whole == {name: item[name] for name in ("metadata", "landscape", "path", "convergence_point")}
