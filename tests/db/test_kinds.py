"""Payloads of every good run of the sample data against the truth; their size, their references, their end."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text

from indexer.db.overview import overview
from indexer.ingest import payloads
from indexer.payload import Stored
from indexer.plugins import KINDS, tensor
from indexer.text import show
from tests.conftest import DATA
from tests.db.test_truth import number, truth
from tests.support.following import SMALL, Follower, index_once, make
from tests.support.records import png, tb_image, tb_scalar, tb_strings, tb_tensor, tb_version
from tests.support.tables import differences, dump

FILE = "events.out.tfevents.1700000000.x"
_NUMBERS = {"float32": "<f", "float64": "<d"}  # tensors of one are numbers in the truth


def blobs(conn: Connection, tag: int) -> list[Row[Any]]:
    """Return the payloads of a tag in load order, with their points' clocks."""
    query = text(
        "SELECT b.*, p.wall_time FROM blobs b JOIN tensor_points p"
        " ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq"
        " WHERE b.tag_id = :tag ORDER BY b.seq, b.step, b.ordinal"
    )
    return list(conn.execute(query, {"tag": tag}))


def bytes_of(row: Row[Any]) -> bytes:
    """Return the decoded bytes of a payload."""
    return zlib.decompress(row.data) if row.encoding == "zlib" else bytes(row.data)


def filled(row: Row[Any]) -> bytes:
    """Return the digest of a tensor of which the file has only the first elements."""
    shape = tuple(json.loads(row.shape))
    stored = Stored(row.content_type, row.length, dtype=row.dtype, shape=shape, data=bytes_of(row))
    return hashlib.sha256(tensor.whole(stored).tobytes()).digest()


def digest(plugin: str, points: Sequence[Sequence[Row[Any]]]) -> str:
    """Return `series_sha256` of the truth: of step, clock and digest of the payload of each point."""
    found = hashlib.sha256()
    for rows in points:
        first = rows[0]
        found.update(struct.pack("<q", first.step) + struct.pack("<d", first.wall_time))
        facts = [json.loads(row.facts) if row.facts else {} for row in rows]
        if first.kind == "hparams":  # what it says is in its metadata; the tensor is empty
            found.update(hashlib.sha256(b"").digest())
            continue
        if first.kind == "tensor" and first.shape == "[]" and first.dtype in _NUMBERS:
            found.update(struct.pack("<d", *struct.unpack(_NUMBERS[first.dtype], bytes_of(first))))
            continue
        items: list[bytes] | None = None
        if plugin == "images" and first.colorspace is None:
            items = [str(first.width).encode(), str(first.height).encode(), *map(bytes_of, rows)]
        elif plugin == "audio" and "label" in facts[0]:
            items = [
                item for row, fact in zip(rows, facts, strict=True) for item in (bytes_of(row), fact["label"].encode())
            ]
        elif plugin in {"text", "custom_scalars"}:
            items = [bytes_of(row) for row in rows]
        if items is None:
            assert 1 == len(rows)
            found.update(filled(first) if "elements" in facts[0] else bytes(first.digest))
        else:
            found.update(hashlib.sha256(b"".join(struct.pack("<Q", len(item)) + item for item in items)).digest())
    return found.hexdigest()


@pytest.mark.parametrize("format_", ["mindspore", "tensorboard"])
@pytest.mark.parametrize("kernel", [False, True])
def test_every_payload_equals_the_truth(engine: Engine, format_: str, kernel: bool) -> None:
    """Images, sounds, tensors, texts byte for byte, histograms number for number, as independent readers found them."""
    index_once(engine, DATA / format_, config=replace(SMALL, kernel=kernel, slice_bytes=16 * 2**20))
    compared = dict.fromkeys(("image", "audio", "tensor", "histogram", "histo"), 0)
    with engine.connect() as conn:
        tags = conn.execute(text("SELECT j.train_id, t.* FROM tags t JOIN jobs j ON j.id = t.job_id")).all()
        by_name = {(tag.train_id, tag.plugin, show(tag.name)): tag for tag in tags}
        for name, run in truth(format_).items():
            for series in run["series"]:
                if series["kind"] not in compared or series["plugin"] == "scalars":
                    continue
                tag = by_name[name, series["plugin"] or "", series["tag"]]
                rows = blobs(conn, tag.id)
                assert {None} == {row.error for row in rows}
                assert all(hashlib.sha256(bytes_of(row)).digest() == bytes(row.digest) for row in rows)
                points: list[list[Row[Any]]] = []
                for row in rows:
                    if row.ordinal == 0:
                        points.append([])
                    points[-1].append(row)
                assert series["count"] == len(points)
                check_series(conn, series, tag.plugin, points)
                compared[series["kind"]] += 1
    wanted = {"mindspore": ("image", "tensor", "histogram"), "tensorboard": ("image", "audio", "tensor", "histo")}
    assert all(compared[kind] > 0 for kind in wanted[format_])


def check_series(conn: Connection, series: dict[str, Any], plugin: str, points: list[list[Row[Any]]]) -> None:
    """Compare all payloads of a series by their digest, the first and last one by what is known of them."""
    if series["kind"] in {"histogram", "histo"}:
        check_histogram(conn, series["first"], points[0][0])
        check_histogram(conn, series["last"], points[-1][0])
        return
    assert series["series_sha256"] == digest(plugin, points)
    for expected, rows in ((series["first"], points[0]), (series["last"], points[-1])):
        first = rows[0]
        if series["kind"] == "image":
            size = (first.width, first.height, first.colorspace, first.length)
            assert (expected["width"], expected["height"], expected["colorspace"], expected["bytes"]) == size
            assert "image/png" == first.content_type
        elif series["kind"] == "audio":
            facts = json.loads(first.facts)
            assert (expected["sample_rate"], expected["num_channels"], expected["length_frames"]) == (
                facts["sample_rate"],
                facts["channels"],
                facts["frames"],
            )
            assert "audio/wav" == first.content_type
        elif first.kind == "tensor" and "value" not in expected:
            assert (expected.get("shape") or expected.get("dims") or []) == json.loads(first.shape)


def check_histogram(conn: Connection, expected: dict[str, Any], row: Row[Any]) -> None:
    """Compare a histogram's buckets and statistics."""
    query = text("SELECT * FROM histogram_stats WHERE tag_id = :tag AND step = :step AND seq = :seq")
    stats = conn.execute(query, {"tag": row.tag_id, "step": row.step, "seq": row.seq}).one()
    total = stats._mapping["count"]
    found = list(struct.iter_unpack("<3d", bytes_of(row)))
    if "buckets" in expected:
        assert [tuple(map(number, bucket)) for bucket in expected["buckets"]] == found
        counts = [stats.nan_count, stats.pos_inf_count, stats.neg_inf_count]
        assert [expected["nan_count"], expected["pos_inf_count"], expected["neg_inf_count"]] == counts
        assert expected["count"] == total + sum(counts)
    else:
        limits, low, high = expected["bucket_limit"], expected["min"], expected["max"]
        lefts, rights = [low, *limits[:-1]], [*limits[:-1], high]
        assert list(zip(lefts, rights, expected["bucket"], strict=True)) == found
        assert json.loads(row.facts).get("last_limit", high) == limits[-1]
        assert (expected["num"], expected["sum_squares"]) == (total, stats.sum_squares)
    if total:
        known = (stats.min, stats.max, stats.sum, stats.mean)
        assert (expected["min"], expected["max"], expected["sum"], expected["sum"] / total) == known


@pytest.mark.parametrize("format_", ["mindspore", "tensorboard"])
def test_every_point_that_is_no_number_has_a_payload(engine: Engine, format_: str) -> None:
    """Also one without any field, whose metadata are all it has; and what is counted per tag is what there is."""
    index_once(engine, DATA / format_)
    without = text(
        "SELECT j.train_id, t.name, count(*) FROM tensor_points p JOIN tags t ON t.id = p.tag_id"
        " JOIN jobs j ON j.id = t.job_id WHERE t.data_class <> 'scalar' AND NOT EXISTS (SELECT 1 FROM blobs b"
        " WHERE b.tag_id = p.tag_id AND b.step = p.step AND b.seq = p.seq) GROUP BY 1, 2"
    )
    counted = text("SELECT tag_id, kind, count, errors, bytes FROM blob_counts")
    there = text("SELECT tag_id, kind, count(*), count(error), CAST(sum(length) AS BIGINT) FROM blobs GROUP BY 1, 2")
    with engine.connect() as conn:
        assert [] == conn.execute(without).all()
        rows = set(map(tuple, conn.execute(counted)))
        assert rows
        assert rows == set(map(tuple, conn.execute(there)))


def test_batches_end_by_bytes(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few bytes of payloads a transaction may hold, the tables are the same."""
    records = [
        tb_image("a", step, png(9, step), float(step)) + tb_scalar("b", step, 1.0, 1.0) for step in range(1, 200)
    ]
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + b"".join(records)})
    config = replace(SMALL, slice_bytes=4096)
    index_once(engine, root, config=config)
    expected = dump(engine)
    with engine.connect() as conn:
        once = conn.execute(text("SELECT change_counter FROM index_state")).scalar_one()
    monkeypatch.setattr(payloads, "BATCH_BYTES", 1_000)
    follower = Follower(engine, root, config=config)
    follower.indexer.loader.reset(next(iter(follower.indexer.jobs.values())))
    with engine.connect() as conn:
        assert 0 == sum(conn.execute(text(f"SELECT count(*) FROM {t}")).scalar_one() for t in ("blobs", "blob_counts"))
        between = conn.execute(text("SELECT change_counter FROM index_state")).scalar_one()
    follower.scan()
    with engine.connect() as conn:
        twice = conn.execute(text("SELECT change_counter FROM index_state")).scalar_one()
    assert twice - between > once
    assert [] == differences(expected, dump(engine))


def test_a_long_payload_stays_in_its_file(engine: Engine, tmp_path: Path) -> None:
    """It is referred to by file, offset and length, with what is known of it; a short one beside it is stored."""
    image, content = png(50, 40), b"\x00\x00\x80?" * 100
    records = (
        tb_image("long", 1, image, 1.0) + tb_image("short", 1, png(1, 1), 1.0) + tb_tensor("t", 2, (100,), content, 1.0)
    )
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + records})
    index_once(engine, root, config=replace(SMALL, max_blob_bytes=len(png(1, 1))))
    whole = (root / "a" / FILE).read_bytes()
    query = text("SELECT b.*, t.name FROM blobs b JOIN tags t ON t.id = b.tag_id")
    with engine.connect() as conn:
        found = {row.name: row for row in conn.execute(query)}
    assert ("raw", png(1, 1), None) == (found["short"].encoding, bytes(found["short"].data), found["short"].offset)
    for name, data in (("long", image), ("t", content)):
        row = found[name]
        assert ("ref", None, None, len(data)) == (row.encoding, row.data, row.error, row.length)
        assert data == whole[row.offset : row.offset + row.length]
        assert hashlib.sha256(data).digest() == bytes(row.digest)
    assert (50, 40, "image/png") == (found["long"].width, found["long"].height, found["long"].content_type)


def test_what_cannot_be_decoded_is_kept_and_counted(engine: Engine, tmp_path: Path) -> None:
    """A bad image, text or shape stops nothing: its bytes are there, its error too, and `status` counts it."""
    records = [
        tb_image("image", 1, png(1, 1), 1.0),
        tb_image("image", 2, b"no image", 1.0),
        tb_strings("text", 1, [b"good", b"\xff"], 1.0),
        tb_tensor("tensor", 1, (3,), bytes(16), 1.0),
        tb_scalar("loss", 1, 0.5, 1.0),
    ]
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + b"".join(records)})
    outcome = index_once(engine, root)
    assert (5, 0) == (outcome.points, outcome.bad_records)
    with engine.connect() as conn:
        bad = conn.execute(text("SELECT kind, data FROM blobs WHERE error IS NOT NULL ORDER BY kind")).all()
        assert [("image", b"no image"), ("tensor", bytes(16)), ("text", b"\xff")] == [
            (r.kind, bytes(r.data)) for r in bad
        ]
        assert [3] == [job["bad_payloads"] for job in overview(conn).jobs]


def test_the_views_show_histograms_and_texts(engine: Engine) -> None:
    """v_histograms has the statistics of each histogram, v_texts the texts as text."""
    index_once(engine, DATA / "tensorboard")
    with engine.connect() as conn:
        texts = conn.execute(text("SELECT job, tag, step, ordinal, text FROM v_texts WHERE tag = 'table'")).all()
        stats = conn.execute(text("SELECT * FROM v_histograms WHERE job = './hist-old' AND tag = 'w/constant'")).all()
    assert [("./text", "table", 0, ordinal) for ordinal in range(4)] == sorted(tuple(row[:4]) for row in texts)
    assert all(isinstance(row.text, str) and row.text for row in texts)
    assert [(2.5, 2.5, 2.5, 0.0)] == list({(row.min, row.max, row.mean, row.stddev) for row in stats})


def test_a_text_with_nul_is_shown_where_the_database_can(engine: Engine, tmp_path: Path) -> None:
    """PostgreSQL's text holds no NUL: the view answers all the same, and the bytes are there."""
    root = make(tmp_path / "runs", {f"a/{FILE}": tb_version(1.0) + tb_strings("t", 1, [b"a\x00b", b"c"], 1.0)})
    index_once(engine, root)
    with engine.connect() as conn:
        shown = [row.text for row in conn.execute(text("SELECT text FROM v_texts ORDER BY ordinal"))]
        kept = [bytes(row.data) for row in conn.execute(text("SELECT data FROM blobs ORDER BY ordinal"))]
    assert ([b"a\x00b", b"c"], "c") == (kept, shown[1])
    assert shown[0] == (None if engine.dialect.name == "postgresql" else "a\x00b")


def test_every_kind_occurs_in_the_sample_data(engine: Engine) -> None:
    """No kind goes untested; what is left for `message` no writer of the samples puts there."""
    index_once(engine, DATA / "mindspore", DATA / "tensorboard")
    with engine.connect() as conn:
        found = {row.kind for row in conn.execute(text("SELECT kind FROM blob_counts"))}
    assert {kind.name for kind in KINDS} - {"message"} == found
