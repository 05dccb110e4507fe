"""What tensorboardX, a real writer, is given comes out of REST again: values as they are, bytes as they are."""

from __future__ import annotations

import base64
import io
import math
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2, plugin_hparams_pb2, summary_pb2, tensor_pb2

from indexer.config import Config
from indexer.db.engine import open_reader
from tests.api.conftest import Api
from tests.support.following import SMALL, index_once

RNG = np.random.default_rng(7)
STEPS = (0, 3, 2**40)
SCALARS = (0.5, -math.inf, 1.5)
PICTURES = [RNG.integers(0, 256, (5, 4, 3), np.uint8) for _ in STEPS]
TEXTS = ("# grün", "", "a\0b")
VERTICES = RNG.random((1, 6, 3)).astype(np.float32)
FACES = RNG.integers(0, 6, (1, 4, 3)).astype(np.int32)
COLORS = RNG.integers(0, 256, (1, 6, 3)).astype(np.uint8)
SCENE = {"camera": {"cls": "PerspectiveCamera", "fov": 75}, "lights": [{"cls": "AmbientLight"}]}
CURVE = {
    "true_positives": [6.0, 4.0, 0.0],
    "false_positives": [5.0, 1.0, 0.0],
    "true_negatives": [0.0, 4.0, 5.0],
    "false_negatives": [0.0, 2.0, 6.0],
    "precision": [0.5, 0.75, 1.0],
    "recall": [1.0, 0.625, 0.0],
}
HISTOGRAM = {"min": -1.0, "max": 4.0, "num": 6, "sum": 9.0, "sum_squares": 21.0}
LAYOUT = {"Losses": {"both": ["Multiline", ["loss/train", "loss/val"]], "band": ["Margin", ["a", "b", "c"]]}}
MATRIX = np.arange(6, dtype="<f8").reshape(2, 3)
GRAPH, META_GRAPH, RUN_METADATA = b"\x0a\x03\x0a\x01n", b"\x12\x05\x0a\x03\x0a\x01n", b"\x0a\x00"


def sound() -> bytes:
    """Return a WAV file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(struct.pack("<100h", *range(100)))
    return out.getvalue()


def write(directory: Path) -> None:
    """Write one of everything that a writer of TensorBoard's has."""
    with SummaryWriter(str(directory)) as writer:
        for number, step in enumerate(STEPS):
            at = {"walltime": 100.25 + number}
            writer.add_scalar("loss", SCALARS[number], step, **at)
            writer.add_image("picture", PICTURES[number], step, dataformats="HWC", **at)
            writer.add_text("note", TEXTS[number], step, **at)
        writer.add_scalar("described", 2.0, 1, display_name="Loss", summary_description="*mean*")
        counts = {"bucket_limits": [0.0, 1.0, 4.0], "bucket_counts": [1.0, 2.0, 3.0]}
        writer.add_histogram_raw("spread", **HISTOGRAM, **counts, global_step=1)
        writer.add_pr_curve_raw("curve", *map(np.array, CURVE.values()), global_step=2, num_thresholds=3)
        writer.add_mesh("shape", VERTICES, COLORS, FACES, config_dict=SCENE, global_step=1)
        writer.add_custom_scalars(LAYOUT)
        writer.add_hparams({"lr": 0.5, "name": "x"}, {"accuracy": 0.75}, name="session", global_step=4)
        writer.add_embedding(MATRIX, metadata=["a", "b"], global_step=1, tag="words")
        events = writer.file_writer
        clip = summary_pb2.Summary.Audio(
            sample_rate=8000, num_channels=1, length_frames=100, encoded_audio_string=sound(), content_type="audio/wav"
        )
        tensor = tensor_pb2.TensorProto(dtype="DT_DOUBLE", tensor_content=MATRIX.tobytes())
        for size in MATRIX.shape:
            tensor.tensor_shape.dim.add(size=size)
        metadata = summary_pb2.SummaryMetadata()
        metadata.plugin_data.plugin_name = "mine"
        metadata.plugin_data.content = b"\x00\xff"
        for value in (
            summary_pb2.Summary.Value(tag="clip", audio=clip),
            summary_pb2.Summary.Value(tag="matrix", tensor=tensor, metadata=metadata),
        ):
            events.add_summary(summary_pb2.Summary(value=[value]), 1)
        session, log = event_pb2.SessionLog, event_pb2.LogMessage
        for what in (
            {"graph_def": GRAPH},
            {"meta_graph_def": META_GRAPH},
            {"tagged_run_metadata": event_pb2.TaggedRunMetadata(tag="step1", run_metadata=RUN_METADATA)},
            {"log_message": log(level=log.WARN, message="slow")},
            {"session_log": session(status=session.CHECKPOINT, checkpoint_path="ckpt-9", msg="saved")},
        ):
            events.add_event(event_pb2.Event(**what), 9)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what the writer wrote."""
    directory = tmp_path_factory.mktemp("written")
    write(directory / "run")
    return directory


@pytest.fixture(params=[False, True], ids=["pure", "kernel"])
def api(request: pytest.FixtureRequest, written: Path, engine: Engine, url: str) -> Iterator[Api]:
    """The API over what was written."""
    outcome = index_once(engine, written, config=SMALL.__class__(kernel=request.param, slice_bytes=2**24))
    assert (2, 0) == (outcome.jobs, outcome.bad_records)
    reader = open_reader(url)
    yield Api.over(Config(url=url, query_seconds=10.0), reader)
    reader.dispose()


def items(api: Api, path: str, **wanted: object) -> list[dict[str, Any]]:
    """Return all items of a list."""
    return api.pages(path, {"job": "./run", "restarts": "all", **wanted})


def test_all_that_was_written_is_read(api: Api) -> None:
    """Every kind, on both databases and both decode paths: numbers, pixels, texts, buckets, elements, bytes."""
    bytes_ = {item["url"]: api.request(item["url"]).data for kind in KINDS for item in items(api, kind)}
    (loss,) = api.get("/series", {"job": "./run", "tag": "loss"})["series"]
    assert (list(STEPS), [100.25, 101.25, 102.25], [0.5, "-Infinity", 1.5]) == (
        loss["step"],
        loss["wall_time"],
        loss["value"],
    )
    pictures = items(api, "/images")
    assert list(STEPS) == [item["step"] for item in pictures]
    for picture, item in zip(PICTURES, pictures, strict=True):
        assert (4, 5, "image/png") == (item["metadata"]["width"], item["metadata"]["height"], item["content_type"])
        assert picture.tolist() == np.asarray(Image.open(io.BytesIO(bytes_[item["url"]]))).tolist()
    assert [("note/text_summary", text) for text in TEXTS] == [(i["tag"], i["text"]) for i in items(api, "/texts")]
    (histogram,) = items(api, "/histograms")
    assert [[-1.0, 0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 4.0, 3.0]] == histogram["buckets"]
    expected = {"min": -1.0, "max": 4.0, "count": 6.0, "sum": 9.0, "sum_squares": 21.0, "mean": 1.5}
    assert expected == {name: histogram["statistics"][name] for name in expected}
    (clip,) = items(api, "/audio")
    assert (sound(), "audio/wav", 8000.0, 1, 100) == (
        bytes_[clip["url"]],
        clip["content_type"],
        *(clip["metadata"][name] for name in ("sample_rate", "channels", "frames")),
    )
    (curve,) = items(api, "/pr-curves")
    assert {"thresholds": [0.0, 0.5, 1.0], **CURVE} == {name: curve[name] for name in ("thresholds", *CURVE)}
    assert {"dtype": "float32", "shape": [6, 3], "num_thresholds": 3} == curve["metadata"]
    assert np.array(list(CURVE.values()), "<f4").tobytes() == bytes_[curve["url"]]
    meshes = {item["metadata"]["content_type"]: item for item in items(api, "/meshes", dims=":,:,:")}
    parts: dict[str, np.ndarray[Any, Any]] = {"VERTEX": VERTICES, "FACE": FACES, "COLOR": COLORS}
    for name, part in parts.items():
        item = meshes[name]
        assert (part.tolist(), part.astype("<f4").tobytes()) == (item["values"], bytes_[item["url"]])
        assert ("shape", SCENE, list(part.shape)) == tuple(item["metadata"][key] for key in ("name", "config", "shape"))
    (matrix,) = items(api, "/tensors", dims=":,:")
    assert (MATRIX.tolist(), MATRIX.tobytes()) == (matrix["values"], bytes_[matrix["url"]])
    assert ("mine", b"\x00\xff") == (matrix["plugin"], base64.b64decode(matrix["metadata"]["plugin_content"]))
    (layout,) = items(api, "/custom-scalars")
    charts = [
        {"title": "both", "multiline": {"tag": ["loss/train", "loss/val"]}},
        {"title": "band", "margin": {"series": [{"value": "a", "lower": "b", "upper": "c"}]}},
    ]
    assert {"category": [{"title": "Losses", "chart": charts}]} == layout["layout"]
    assert [
        {"field": "log_message", "level": "WARN", "message": "slow"},
        {"field": "session_log", "status": "CHECKPOINT", "checkpoint_path": "ckpt-9", "message": "saved"},
    ] == sorted((item["metadata"] for item in items(api, "/logs")), key=lambda facts: str(facts["field"]))
    kept = {one["base64"] for point in items(api, "/points", payload="base64") for one in point.get("payloads", ())}
    assert {base64.b64encode(data).decode() for data in (GRAPH, META_GRAPH, RUN_METADATA)} <= kept
    assert {base64.b64encode(data).decode() for data in bytes_.values()} <= kept


KINDS = ("/images", "/texts", "/histograms", "/audio", "/pr-curves", "/meshes", "/tensors", "/custom-scalars", "/logs")


def test_what_is_said_of_tags_is_read(api: Api) -> None:
    """Names, descriptions and plugin content, as written and decoded; projector files are none of the event file's."""
    tags = {item["name"]: item for item in api.pages("/jobs/.%2Frun/tags")}
    assert ("Loss", "*mean*") == tuple(tags["described"]["metadata"][key] for key in ("display_name", "description"))
    assert {"num_thresholds": 3} == tags["curve"]["metadata"]["plugin_data"]
    assert {
        "name": "shape",
        "content_type": "FACE",
        "json_config": tags["shape_1"]["metadata"]["plugin_data"]["json_config"],
        "shape": [1, 4, 3],
    } == tags["shape_2"]["metadata"]["plugin_data"]
    assert ("AP8=", None) == tuple(tags["matrix"]["metadata"][key] for key in ("plugin_content", "plugin_data"))
    assert not [name for name in tags if "words" in name]
    (start,) = (
        item for item in api.pages("/jobs/.%2Frun%2Fsession/tags") if item["name"].endswith("session_start_info")
    )
    content = plugin_hparams_pb2.HParamsPluginData.FromString(base64.b64decode(start["metadata"]["plugin_content"]))
    hparams = content.session_start_info.hparams
    assert ("hparams", 0.5, "x") == (start["plugin"], hparams["lr"].number_value, hparams["name"].string_value)
