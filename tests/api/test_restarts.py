"""A training that went back, from its files to SQL, REST and rollups: the current curve and everything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from indexer.config import Config
from indexer.db.engine import open_reader
from indexer.db.rollups import LONG
from tests.api.conftest import Api
from tests.support.following import SMALL, Follower, empty, index_once, make
from tests.support.records import tb_scalar, tb_session_start, tb_version
from tests.support.tables import differences, dump

FIRST = "events.out.tfevents.1700000000.x"
SECOND = "events.out.tfevents.1700000001.x"
COUNT = LONG + 5_000  # long enough for buckets
BACK = COUNT - 3_000  # where the second session begins


def scalars(steps: Sequence[int], scale: float, *, tag: str = "loss") -> bytes:
    """Return a record for each step."""
    return b"".join(tb_scalar(tag, step, step * scale, 1.7e9) for step in steps)


def preempted(cause: str) -> dict[str, bytes]:
    """Return the files of a run that reached COUNT, went back to BACK and reached COUNT + 100. Tag `low` never did."""
    before = tb_version(1.7e9) + scalars([1, 2], 1.0, tag="low") + scalars(range(COUNT), 1.0)
    after = scalars(range(BACK, COUNT + 100), -1.0) + scalars([3], -1.0, tag="low")
    match cause:
        case "session_start":
            return {f"a/{FIRST}": before + tb_session_start(BACK, 1.7e9) + after}
        case "new_file":
            return {f"a/{FIRST}": before, f"a/{SECOND}": tb_version(1.8e9) + after}
        case "both":
            return {f"a/{FIRST}": before, f"a/{SECOND}": tb_version(1.8e9) + tb_session_start(BACK, 1.7e9) + after}
        case _:
            return {f"a/{FIRST}": before + after}


@pytest.fixture
def over(engine: Engine, url: str, tmp_path: Path) -> Iterator[Callable[[str], Api]]:
    """Index a run that was preempted in a way, in pieces and by two indexers; return the API over it."""
    readers: list[Engine] = []

    def served(cause: str) -> Api:
        root = make(tmp_path / "runs", dict.fromkeys(preempted(cause), b""))
        for path, content in preempted(cause).items():  # one writer: the second file begins when the first has ended
            for part in range(1, 4):
                follower = Follower(engine, root, config=replace(SMALL, kernel=True, slice_bytes=2**18))
                (root / path).write_bytes(content[: len(content) * part // 3])
                follower.scan()
                follower.leave()
        readers.append(open_reader(url))
        return Api.over(Config(url=url, query_seconds=20.0), readers[-1])

    yield served
    for reader in readers:
        reader.dispose()


def curve(api: Api, **wanted: Any) -> dict[int, list[float]]:
    """Return step → values of the only series that is asked for."""
    (found,) = api.get("/series", {"job": "./a", "tag": "loss", **wanted})["series"]
    out: dict[int, list[float]] = {}
    for step, value in zip(found["step"], found["value"], strict=True):
        out.setdefault(step, []).append(value)
    return out


@pytest.mark.parametrize("cause", ["session_start", "new_file", "both", "same_file"])
def test_a_preempted_run(engine: Engine, over: Callable[[str], Api], cause: str, tmp_path: Path) -> None:
    """What a session start or a new file overtook is stored, and left out by default; what one file repeats is not."""
    api = over(cause)
    hides = cause != "same_file"
    with engine.connect() as conn:
        found = conn.execute(
            text("SELECT r.seq, r.step, r.cause FROM restarts r JOIN tags t ON t.id = r.tag_id WHERE t.name = 'loss'")
        )
        named = "session_start" if cause == "both" else cause
        assert [(1, BACK, named)] == [tuple(row) for row in found]
        view = conn.execute(text("SELECT count(*), min(value) FROM v_scalars WHERE tag = 'loss'")).one()
        stored = conn.execute(
            text("SELECT count(*) FROM tensor_points p JOIN tags t ON t.id = p.tag_id WHERE t.name = 'loss'")
        ).scalar_one()
        low = conn.execute(text("SELECT min(step), max(step), count(*) FROM v_scalars WHERE tag = 'low'")).one()
        assert (1, 3, 3) == tuple(low), "what lay below stays current"
        latest = conn.execute(text("SELECT step, value FROM v_latest WHERE tag = 'loss'")).one()
    everything = COUNT + COUNT + 100 - BACK
    assert everything == stored
    assert ((COUNT + 100 if hides else everything), -COUNT - 99.0) == tuple(view)
    assert (COUNT + 99, -COUNT - 99.0) == tuple(latest)
    current = curve(api, max_points=0)
    once = {step: [float(step)] if step < BACK else [-float(step)] for step in range(COUNT + 100)}
    twice = {step: ([float(step)] if step < COUNT else []) + ([-float(step)] if step >= BACK else []) for step in once}
    assert (once if hides else twice) == current
    assert twice == curve(api, max_points=0, restarts="all")
    thinned = curve(api, max_points=500)
    assert all(set(values) <= set(current[step]) for step, values in thinned.items()), "rollups know what counts"
    extremes = [value for values in thinned.values() for value in values]
    assert (-COUNT - 99.0, float(BACK - 1 if hides else COUNT - 1)) == (min(extremes), max(extremes))
    points = api.get(
        "/points", {"job": "./a", "tag": "loss", "from_step": BACK, "to_step": BACK, "restarts": "current"}
    )
    expected = [-float(BACK)] if hides else [float(BACK), -float(BACK)]
    assert expected == [item["value"] for item in points["items"]]
    tables = dump(engine, disk=False)
    empty(engine)
    index_once(engine, make(tmp_path / "fresh" / "runs", preempted(cause)), config=replace(SMALL, kernel=True))
    assert [] == differences(dump(engine, disk=False), tables)


def test_what_was_lost_is_shown_by_file(engine: Engine, url: str, tmp_path: Path) -> None:
    """`/jobs/{id}/files` and `/jobs/{id}` tell records and bytes lost, where and why, and what no longer is there."""
    good = tb_version(1.7e9) + scalars([1, 2], 1.0)
    tree = {f"a/{FIRST}": good + b"\xff" * 40 + scalars([3], 1.0), f"a/{SECOND}": good}
    tree[f"a/{SECOND}.gz"] = b"\x1f\x8b" * 30
    root = make(tmp_path / "runs", tree)
    follower = Follower(engine, root)
    follower.scan()
    (root / "a" / SECOND).unlink()
    follower.scan()
    reader = open_reader(url)
    api = Api.over(Config(url=url), reader)
    files = {item["name"]: item for item in api.get("/jobs/.%2Fa/files")["items"]}
    job = api.get("/jobs/.%2Fa")
    reader.dispose()
    assert {FIRST: "growing", SECOND: "missing", f"{SECOND}.gz": "dead"} == {n: f["state"] for n, f in files.items()}
    assert (1, 40, 4) == tuple(files[FIRST][key] for key in ("bad_records", "bad_bytes", "record_count"))
    (error,) = files[FIRST]["errors"]
    assert (len(good), 40) == (error["offset"], error["length"])
    (error,) = files[f"{SECOND}.gz"]["errors"]
    assert error["reason"].startswith("compressed with gzip: decompress it")
    assert (2, 100) == (job["bad_records"], job["bad_bytes"])
    assert f"{SECOND}.gz: compressed with gzip" in job["last_error"]
