"""Every sample file, good and damaged, equals its truth on both paths."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import defaultdict
from typing import Any

import pytest

from indexer.types import Damage, Format, ShardKind, Slice, Span
from tests.conftest import DATA
from tests.support.decoders import PATHS, Path, Point, decoder, points_of

TRUTH: dict[str, Any] = json.loads((DATA / "truth" / "TRUTH.json").read_text())
DAMAGED: dict[str, Any] = json.loads((DATA / "truth" / "DAMAGED.json").read_text())
RUNS = [(format_, run) for format_ in Format for run in TRUTH[format_]["runs"]]
KINDS = {"lineage": ShardKind.LINEAGE, "explain": ShardKind.EXPLAIN}
NUMBERS = {"scalars", "scalar"}
FILES = [path for path, case in DAMAGED.items() if "records_before" in case and "records_after" in case]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("format_", "run"), RUNS)
def test_a_good_run_equals_its_truth(format_: Format, run: str, path: Path) -> None:
    """Count, first, last, sum, and for numbers the digest of all points in file order, are those of TRUTH."""
    truth = TRUTH[format_]["runs"][run]
    made = decoder(path)
    found: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for file in truth["files"]:
        if file.get("type") == "graph":  # no records
            continue
        content = (DATA / format_ / run / file["name"]).read_bytes()
        kind = KINDS.get(file.get("type", "summary"), ShardKind.SUMMARY)
        decoded = made.decode(content, [Span(1, kind, format_, 0, len(content), 0, name=file["name"])])
        (slice_,) = decoded.slices
        assert (file["records"], [], len(content), 0) == (slice_.records, slice_.damages, slice_.end, slice_.need)
        for point in points_of(made, decoded):
            found[point[:2]].append(point)
    wanted: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for series in truth["series"]:
        wanted[series["plugin"] or "", series["tag"]].append(series)
    for (plugin, tag), entries in wanted.items():
        points = found.pop((plugin, tag))
        assert sum(entry["count"] for entry in entries) == len(points)
        if len(entries) > 1:  # one tag in two styles is one series of ours, in file order
            numbers = [float.fromhex(point[4]) for point in points]
            assert math.isclose(sum(e["finite_sum"] for e in entries), math.fsum(filter(math.isfinite, numbers)))
            continue
        (entry,) = entries
        for which, point in ("first", points[0]), ("last", points[-1]):
            assert (entry[which]["step"], entry[which]["wall_time"]) == (point[2], float.fromhex(point[3]))
        if plugin not in NUMBERS:
            assert all(point[5] for point in points)
            continue
        assert not any(point[5] for point in points)
        digest = hashlib.sha256()
        for _, _, step, wall_time, value, _ in points:
            digest.update(struct.pack("<qdd", step, float.fromhex(wall_time), float.fromhex(value)))
        assert entry["series_sha256"] == digest.hexdigest()
    sessions = [entry["step"] for entry in truth.get("session_log", [])]
    assert sessions == [point[2] for point in found.pop(("session_log", "__session_log__"), [])]
    assert truth.get("log_messages", 0) == len(found.pop(("log_message", "__log_message__"), []))
    assert len(truth.get("lineage", [])) == sum(len(found.pop(key)) for key in list(found) if key[0] == "lineage")
    assert {"graph", "graphs", "graph_tagged_run_metadata"} >= {plugin for plugin, _ in found}
    assert len(truth["graphs"]) >= sum(len(p) for (plugin, _), p in found.items() if plugin.startswith("graph")) - len(
        truth.get("run_metadata", [])
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_gives_its_good_records(file: str, path: Path) -> None:
    """All good records before and after the damage are read, nothing else, and the damage is reported where it is."""
    case = DAMAGED[file]
    content = (DATA / file).read_bytes()
    made = decoder(path)
    decoded = made.decode(content, [Span(1, ShardKind.SUMMARY, Format(case["format"]), 0, len(content), 0)])
    (slice_,) = decoded.slices
    assert case["records_before"] + case["records_after"] == slice_.records
    check_damage(case, slice_, len(content))
    scalars: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for _, tag, step, _, value, not_number in points_of(made, decoded):
        if not not_number:
            scalars[tag].append((step, float.fromhex(value)))
    assert {*case["scalars_before"], *case["scalars_after"]} == set(scalars)
    for tag, points in scalars.items():
        before, after = case["scalars_before"].get(tag), case["scalars_after"].get(tag)
        parts = [part for part in (before, after) if part]
        assert sum(part["count"] for part in parts) == len(points)
        ends = (parts[0]["first"], points[0]), (parts[-1]["last"], points[-1])
        for (wanted_step, wanted_value), (step, number) in ends:
            assert wanted_step == step
            assert float(wanted_value) == number or math.isnan(number)  # JSON has names for what is not finite
        assert math.isclose(
            sum(part["sum"] for part in parts), math.fsum(v for _, v in points if math.isfinite(v)), abs_tol=1e-9
        )


def check_damage(case: dict[str, Any], slice_: Slice, size: int) -> None:
    """Compare what was reported with the kind of damage a case is."""
    start = case["good_end_offset"]
    lost = [(damage.offset, damage.length) for damage in slice_.damages]
    match case["class"]:
        case "clean" | "empty" | "odd-record" | "ignored":
            assert ([], size, 0, None) == (lost, slice_.end, slice_.need, slice_.lost_since)
        case "torn":
            assert ([], start, None) == (lost, slice_.end, slice_.lost_since)
            assert start + slice_.need > size
        case "bad-record":
            (damage,) = slice_.damages
            assert start == damage.offset
            assert "checksum" not in damage.reason
        case "corrupt" | "implausible-length" if case["framing_continues"]:
            assert start == lost[0][0]
            assert all("payload checksum" in damage.reason for damage in slice_.damages)
            assert slice_.lost_since is None
        case "corrupt" | "implausible-length" if case["resync_offset"] is not None:
            assert [(start, case["resync_offset"] - start)] == lost
            assert (size, None) == (slice_.end, slice_.lost_since)
        case _:  # nothing good follows
            assert ([], start) == (lost, slice_.lost_since)
            assert slice_.lost_reason is not None
            assert slice_.end > size - 12


def test_all_damaged_files_are_covered() -> None:
    """Every damaged file that holds records is a case above."""
    assert len(FILES) > 90
    assert {"clean", "torn", "corrupt", "bad-record", "odd-record", "implausible-length", "empty"} <= {
        DAMAGED[file]["class"] for file in FILES
    }


def test_the_reason_names_both_checksums() -> None:
    """A flipped bit of a length checksum is reported with what was computed and what the file says."""
    file = next(file for file in FILES if "flip-length-crc" in file)
    content = (DATA / file).read_bytes()
    made = decoder("pure")
    decoded = made.decode(content, [Span(1, ShardKind.SUMMARY, Format.MINDSPORE, 0, len(content), 0)])
    (damage,) = decoded.slices[0].damages
    stored = int.from_bytes(content[damage.offset + 8 : damage.offset + 12], "little")
    assert isinstance(damage, Damage)
    assert f"file says {stored:#010x}" in damage.reason
