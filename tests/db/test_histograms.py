"""Histograms that the compiled path read, as columns, are stored as those of the pure path are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from benchmarks.payloads import Payloads, write
from indexer.decode import kernel
from indexer.ingest import payloads
from indexer.types import Format
from tests.support.decoders import decoder, span
from tests.support.following import SMALL, Follower, index_once, make
from tests.support.records import (
    bytes_field,
    grid,
    ms_buckets,
    ms_event,
    ms_version,
    tb_event,
    tb_histogram,
    tb_metadata,
    tb_scalar,
    tb_value,
    tb_version,
)
from tests.support.tables import differences, dump

TENSORBOARD = "events.out.tfevents.1700000000.x"
MINDSPORE = "a.out.events.summary.1700000000.x"
COMPILED = replace(SMALL, kernel=True, slice_bytes=2**18)


def files() -> dict[str, bytes]:
    """Return runs of both formats: histograms of all forms and sizes among numbers, steps that go back, a bad one."""
    ours = tb_version(1.0)
    for step in range(600):
        ours += tb_scalar("loss", step, 1.0, 1.0)
        ours += tb_histogram("w", step, [float(i) for i in range(1 + step % 7)], [2.0] * (1 + step % 7), 1.0)
        rows = [(float(i), i + 1.0, float(step % 3)) for i in range(1 + step % 5)]
        ours += tb_event(1.0, tb_value("grid", bytes_field(8, grid(rows)), tb_metadata("histograms")), step)
    ours += tb_histogram("w", 300, [1.0, 2.0], [1.0], 1.0)  # a count is missing
    ours += tb_histogram("w", 300, [1.0, 2.0], [1.0, 5.0], 1.0)
    theirs = ms_version(1.0)
    for step in range(600):
        buckets = ms_buckets([(-1.0, 0.5, step), (-0.5, 0.5, 3)], nan_count=step % 2)
        theirs += ms_event(1.0, bytes_field(5, bytes_field(1, bytes_field(1, b"w") + bytes_field(9, buckets))), step)
    return {f"tensorboard/{TENSORBOARD}": ours, f"mindspore/{MINDSPORE}": theirs}


def test_both_paths_fill_the_tables_alike(engine: Engine, tmp_path: Path) -> None:
    """Rows of all tables are the same whichever path reads, and whether they come at once or in many batches."""
    assert kernel.load() is not None
    root = make(tmp_path / "runs", files())
    index_once(engine, root, config=replace(COMPILED, kernel=False))
    expected = dump(engine)
    with engine.connect() as conn:
        assert 1802 == conn.execute(text("SELECT count(*) FROM blobs WHERE kind = 'histogram'")).scalar_one()
        assert 1801 == conn.execute(text("SELECT count(*) FROM histogram_stats")).scalar_one()
    for batch_points in (200_000, 100):  # reset, then read again
        follower = Follower(engine, root, config=replace(COMPILED, batch_points=batch_points))
        for job in list(follower.indexer.jobs.values()):
            follower.indexer.loader.reset(job)
        with engine.connect() as conn:
            assert 0 == conn.execute(text("SELECT count(*) FROM histogram_stats")).scalar_one()
        follower.scan()
        assert [] == differences(expected, dump(engine))


@pytest.mark.parametrize("format_", ["tensorboard", "mindspore"])
def test_what_the_benchmark_writes_is_loaded(engine: Engine, tmp_path: Path, format_: str) -> None:
    """Counts, bytes and sums are those of the generated histograms."""
    wanted = write(Payloads("histograms", 1_500, format=format_), tmp_path / "runs")  # type: ignore[arg-type]
    index_once(engine, tmp_path / "runs", config=COMPILED)
    with engine.connect() as conn:
        found = conn.execute(text("SELECT sum(count), sum(errors), sum(bytes) FROM blob_counts")).one()
        assert (wanted.payloads, 0, wanted.size) == tuple(map(int, found))
        assert wanted.values == conn.execute(text("SELECT sum(count) FROM histogram_stats")).scalar_one()


def test_histograms_count_as_bytes() -> None:
    """A batch ends by their bytes in memory, and small ones make the next read a smaller one."""
    content = b"".join(tb_histogram("w", step, [1.0] * 4, [1.0] * 4, 1.0) for step in range(1_000))
    whole = decoder("kernel").decode(content, [span(content, Format.TENSORBOARD)])
    assert whole.histograms is not None
    assert 1_000 * 4 * 24 < payloads.size(whole, 0, 1_000)
    assert payloads.size(whole, 0, 1_000) == payloads.size(whole, 0, 7) + payloads.size(whole, 7, 1_000)
    assert 2**16 <= payloads.reach(whole, len(content), 2**30) < 2**24
