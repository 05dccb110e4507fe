"""The explainer: samples, what is thought of them, scores, and pictures that are derived."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image, ImageEnhance, ImageFilter

from tests.mindinsight.conftest import Client, index
from tests.support.explaining import benchmark, inference, metadata, occlusion, record, saliency, sample
from tests.support.following import make
from tests.support.mindinsight import PREFIX
from tests.support.records import bytes_field, float_field, ms_scalars, ms_version, varint_field

FILE = "events.out.events.summary.5.0.x_explain"


def picture(mode: str = "RGB", size: tuple[int, int] = (12, 10), kind: str = "PNG") -> bytes:
    """Return an image with different pixels."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = bytes((7 * n * n + n) % 256 for n in range(size[0] * size[1] * channels))
    out = io.BytesIO()
    Image.frombytes(mode, size, pixels).save(out, kind)
    return out.getvalue()


def whole(number: int, truth: Sequence[int], labels: Sequence[int], probabilities: Sequence[float]) -> bytes:
    """Return a record that holds a sample with its true labels and its inference; probabilities: of truth first."""
    inner = b"".join(float_field(1, p) for p in probabilities[: len(truth)])
    inner += b"".join(varint_field(2, label) for label in labels)
    inner += b"".join(float_field(3, p) for p in probabilities[len(truth) :])
    return record(
        varint_field(1, number)
        + bytes_field(2, f"img/{number}.png".encode())
        + b"".join(varint_field(3, label) for label in truth)
        + bytes_field(4, inner)
    )


def inferences(client: Client, **body: Any) -> dict[int, list[tuple[str, float, str | None]]]:
    """Return label, confidence and prediction type of each inference, by sample in their order."""
    found = client.post("/explainer/saliency", {"train_id": "./a", **body})
    return {
        one["id"]: [(i["label"], i["confidence"], i["prediction_type"]) for i in one["inferences"]]
        for one in found["samples"]
    }


@pytest.fixture
def job(client: Client, url: str, tmp_path: Path) -> Client:
    """A job with samples of every kind, and pictures of theirs."""
    records = [
        metadata(["cat", "dog"], ["Gradient"], ["Faithfulness"]),
        whole(0, [0], [0, 1], [0.25, 0.75, 0.625]),
        whole(1, [1], [0], [0.25, 0.875]),
        sample(2, "img/2.png", [0]),
        inference(2, [0, 1], [0.5, 0.25], [0.125]),
        whole(3, [], [1], [0.375]),
        sample(9, "", [0]),
        saliency(0, "Gradient", 0, "maps/l.png"),
        saliency(0, "GradCAM", 0, "maps/rgb.png"),
        occlusion(0, 0, "gaussian:2", (0.5, [2, 3, 4, 5]), (0.25, [-3, -3, 5, 5, 10, 8, 50, 50])),
        occlusion(3, 1, "blank", (0.5, [0, 0, 1, 1])),
        benchmark("Gradient", "Faithfulness", float("nan"), [0.1234567, 0.5]),
    ]
    root = make(tmp_path / "runs", {f"a/{FILE}": b"".join(records)})
    files = {"img/0.png": picture(), "maps/l.png": picture("L"), "maps/rgb.png": picture("RGB")}
    files |= {"maps/rgba.png": picture("RGBA"), "maps/la.png": picture("LA"), "maps/cut.png": picture()[:60]}
    make(root, {f"a/{name}": data for name, data in files.items()})
    make(root, {"a/_explain_5/manifest.json": json.dumps({"hierarchical_occlusion": True}).encode()})
    index(url, root)
    return client


def test_inferences_are_paired_as_mindinsight_pairs_them(job: Client) -> None:
    """True labels first, with the probability as predicted; where they came alone, probabilities move to the next."""
    assert {
        0: [("cat", 0.75, "TP"), ("dog", 0.625, "FP")],
        1: [("dog", 0.25, "FN"), ("cat", 0.875, "FP")],
        2: [("cat", 0.125, None), ("dog", 0.5, None)],
        3: [("dog", 0.375, None)],
    } == inferences(job)


def test_samples_come_as_they_were_written(client: Client, url: str, tmp_path: Path) -> None:
    """Not by their numbers; a sample belongs where its first record is."""
    records = [metadata(["a"]), whole(7, [], [0], [0.5]), sample(3, "img/3.png"), whole(5, [], [0], [0.5])]
    records.append(inference(3, [0], [0.5]))
    index(url, make(tmp_path / "runs", {f"a/{FILE}": b"".join(records)}))
    assert [7, 3, 5] == list(inferences(client))
    assert [7, 3, 5] == list(inferences(client, sorted_name="confidence"))


def test_samples_are_filtered_sorted_and_paged(job: Client) -> None:
    """By labels, kinds of prediction, and the greatest or smallest confidence among these labels."""
    assert [0, 1, 2] == list(inferences(job, labels=["cat"]))
    assert [0] == list(inferences(job, prediction_types=["TP"]))
    assert [0, 1, 2, 3] == list(inferences(job, prediction_types=["TP", "FN", "FP"]))
    assert [1, 0, 2, 3] == list(inferences(job, sorted_name="confidence"))
    assert [2, 1, 3, 0] == list(inferences(job, sorted_name="confidence", sorted_type="ascending"))
    assert [0, 2, 3, 1] == list(inferences(job, sorted_name="confidence", labels=["dog"]))
    assert [3] == list(inferences(job, limit=3, offset=1))
    assert [] == list(inferences(job, offset=10**20))
    found = job.post("/explainer/saliency", {"train_id": "./a", "limit": "2", "explainers": ["GradCAM"]})
    assert (4, 2) == (found["count"], len(found["samples"]))
    first = found["samples"][0]["inferences"]
    assert ["GradCAM"] == [one["explainer"] for one in first[0]["saliency_maps"]]
    assert 2 == len(first[0]["hoc_layers"])
    assert {} == first[1]["hoc_layers"]


def test_occlusion_shows_what_has_layers(job: Client) -> None:
    """Samples and inferences without any are dropped, unless that is not wanted; maps keep their paths."""
    found = job.post("/explainer/hoc", {"train_id": "./a"})
    assert {0: ["cat"], 3: ["dog"]} == {s["id"]: [i["label"] for i in s["inferences"]] for s in found["samples"]}
    assert "maps/l.png" == found["samples"][0]["inferences"][0]["saliency_maps"][0]["overlay"]
    everything = job.post("/explainer/hoc", {"train_id": "./a", "drop_empty": False})
    assert 4 == everything["count"]
    assert [] == everything["samples"][1]["inferences"][0]["hoc_layers"]


def test_jobs_are_described(job: Client) -> None:
    """Classes with their counts, explainers, scores; a job without an explain file is empty and pending."""
    shown = job.get("/explainer/explain-job", train_id="./a")
    assert (4, "LOADED", {"enabled": False}) == (shown["sample_count"], shown["status"], shown["uncertainty"])
    assert [
        {"id": 0, "label": "cat", "sample_count": 3, "saliency_sample_count": 1, "hoc_sample_count": 1},
        {"id": 1, "label": "dog", "sample_count": 4, "saliency_sample_count": 0, "hoc_sample_count": 1},
    ] == shown["classes"]
    (scores,) = job.get("/explainer/evaluation", train_id="./a")["explainer_scores"]
    assert [{"metric": "Faithfulness", "score": "NaN"}] == scores["evaluations"]
    assert [("cat", 0.123457), ("dog", 0.5)] == [
        (one["label"], one["evaluations"][0]["score"]) for one in scores["class_scores"]
    ]
    (listed,) = job.get("/explainer/explain-jobs")["explain_jobs"]
    assert ("./a", True, True, "1970-01-01 00:00:05") == tuple(
        listed[name] for name in ("train_id", "saliency_map", "hierarchical_occlusion", "create_time")
    )


def test_a_train_job_is_an_empty_explain_job(client: Client, url: str, tmp_path: Path) -> None:
    """As there: asked for by name it is pending, and it is not listed."""
    name = "events.out.events.summary.1.0.x_MS"
    index(url, make(tmp_path / "runs", {f"a/{name}": ms_version(1.0) + ms_scalars(1, {"x": 1.0}, 1.0)}))
    shown = client.get("/explainer/explain-job", train_id="./a")
    assert ("PENDING", 0, []) == (shown["status"], shown["sample_count"], shown["classes"])
    assert {"count": 0, "samples": []} == client.post("/explainer/hoc", {"train_id": "./a"})
    assert [] == client.get("/explainer/explain-jobs")["explain_jobs"]


# Pictures -------------------------------------------------------------------------------------------------------------
def fetched(client: Client, **query: str) -> tuple[int, bytes]:
    """Return status and bytes of a picture."""
    from urllib.parse import urlencode

    asked = urlencode({"train_id": "./a", **query})
    status, headers, body = client.send("GET", f"{PREFIX}/explainer/image?{asked}")
    assert status != 200 or headers["Content-Type"] == "image/png"
    return status, body


def test_addresses_lead_to_pictures(job: Client) -> None:
    """What answers name can be fetched: the original's bytes, overlays, outcomes."""
    saliency_ = job.post("/explainer/saliency", {"train_id": "./a"})["samples"][0]
    hoc = job.post("/explainer/hoc", {"train_id": "./a"})["samples"][0]["inferences"][0]["hoc_layers"]
    addresses = [saliency_["image"], saliency_["inferences"][0]["saliency_maps"][0]["overlay"], hoc[0]["outcome"]]
    assert [["original"], ["overlay"], ["outcome"]] == [parse_qs(urlsplit(a).query)["type"] for a in addresses]
    bodies = []
    for address in addresses:
        status, headers, body = job.send("GET", address)
        assert (200, "image/png") == (status, headers["Content-Type"])
        bodies.append(body)
    assert picture() == bodies[0]


@pytest.mark.parametrize(("path", "mode"), [("maps/l.png", "L"), ("maps/rgb.png", "RGB")])
def test_a_saliency_map_becomes_a_colour(job: Client, path: str, mode: str) -> None:
    """From violet to yellow, as transparent as it does not matter; of a picture in colour the first channel counts."""
    status, body = fetched(job, path=path, type="overlay")
    assert 200 == status
    made, given = Image.open(io.BytesIO(body)), Image.open(io.BytesIO(picture(mode)))
    assert ("RGBA", given.size) == (made.mode, made.size)
    for x, y in ((0, 0), (5, 3), (11, 9), (7, 7)):
        pixel = given.getpixel((x, y))
        value = pixel if mode == "L" else pixel[0]  # type: ignore[index]
        s = value / 255  # type: ignore[operator]
        wanted = tuple(int(s * high + (1 - s) * low) for high, low in ((255, 55), (255, 25), (0, 86)))
        assert (*wanted, int(s * 255)) == made.getpixel((x, y))


def test_an_overlay_that_is_one_stays_as_it_is(job: Client) -> None:
    """A map with transparency is final; other kinds of picture are none."""
    assert (200, picture("RGBA")) == fetched(job, path="maps/rgba.png", type="overlay")
    for path in ("maps/la.png", "maps/cut.png", "maps/none.png"):
        assert 400 == fetched(job, path=path, type="overlay")[0]


def test_an_outcome_shows_only_what_is_in_the_boxes(job: Client) -> None:
    """The rest is blurred, darker and grey; boxes beyond the border are cut."""
    original = Image.open(io.BytesIO(picture()))
    hidden = ImageEnhance.Brightness(original.filter(ImageFilter.GaussianBlur(2))).enhance(0.7)
    hidden = ImageEnhance.Color(hidden).enhance(0)
    for layer, boxes in enumerate(([(2, 3, 6, 8)], [(0, 0, 2, 2), (10, 8, 12, 10)])):
        wanted = hidden.copy()
        for box in boxes:
            wanted.paste(original.crop(box), box[:2])
        status, body = fetched(job, path=f"0_cat_{layer}.jpg", type="outcome")
        assert 200 == status
        assert wanted.tobytes() == Image.open(io.BytesIO(body)).tobytes()
    for path in ("3_dog_0.jpg", "0_cat_2.jpg", "0_dog_0.jpg", "9_cat_0.jpg", "cat.jpg"):
        assert 400 == fetched(job, path=path, type="outcome")[0]


def test_links_lead_nowhere_else(job: Client, tmp_path: Path) -> None:
    """A link out of the directory is forbidden; one within it is not, and neither is what is no picture shown."""
    (tmp_path / "secret.png").write_bytes(picture())
    base = tmp_path / "runs/a"
    (base / "out.png").symlink_to(tmp_path / "secret.png")
    (base / "in.png").symlink_to(base / "img/0.png")
    (base / "loop.png").symlink_to(base / "loop.png")
    (base / "notes.txt").write_text("a secret")
    assert "50540008" == job.error("/explainer/image", train_id="./a", path="out.png", type="original")
    assert (200, picture()) == fetched(job, path="in.png", type="original")
    assert 400 == fetched(job, path="loop.png", type="original")[0]
    assert "5054500D" == job.error("/explainer/image", train_id="./a", path="notes.txt", type="original")


def test_huge_pictures_are_refused(job: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are counted before they are unpacked."""
    monkeypatch.setattr("webapi.mindinsight.overlays.MOST_PIXELS", 100)
    assert 400 == fetched(job, path="maps/l.png", type="overlay")[0]
