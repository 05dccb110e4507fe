"""Recorded answers of MindInsight: laying out the runs they are of, and holding an answer against a recorded one.

The recordings' own rules say what may differ: states of the original's cache, opaque ids, and what it samples.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.conftest import DATA

RECORDED = DATA / "mindinsight"
PREFIX = "/v1/mindinsight"
Send = Callable[[str, str, bytes | None], tuple[int, Mapping[str, str], bytes]]
"""Sends method, path with query, body; returns status, headers, body."""

_SAMPLED = {"image": 10, "histogram": 50, "tensor": 20, "scalar": 1000}
_TENSOR_TAGS, _GRAPH_TAGS, _TAGS = 6, 10, 300


def lay_out(base: Path) -> Path:
    """Copy the runs below `base` and set their times; return their directory."""
    root = base / "mindspore"
    shutil.copytree(DATA / "mindspore", root)
    times: dict[str, int] = json.loads((RECORDED / "mtimes.json").read_text())
    files = [(at, name) for name, at in times.items() if not name.endswith("/")]
    for at, name in sorted(files):
        os.utime(root / name, (at, at))
    for name, at in times.items():
        if name.endswith("/"):
            os.utime(root / name, (at, at))
    return root


def families() -> dict[str, list[dict[str, Any]]]:
    """Return the recorded requests by family, in the order in which they were sent."""
    with lzma.open(RECORDED / "answers.json.xz") as file:
        found: dict[str, list[dict[str, Any]]] = json.load(file)
    return found


def replay(requests: Sequence[dict[str, Any]], send: Send) -> Iterator[str]:
    """Send requests; yield what is wrong with the answers."""
    refused = False
    for recorded in requests:
        query, body = recorded.get("query") or [], recorded.get("body")
        for number, ref in enumerate(recorded.get("refs") or ()):
            value = _resolved(ref, send)
            query = [[name, value if given == f"@{number}" else given] for name, given in query]
            body = _replaced(body, f"@{number}", value)
        data = recorded["raw_body"].encode() if "raw_body" in recorded else None
        if data is None and "body" in recorded:
            data = json.dumps(body).encode()
        path = recorded["path"] + (f"?{urlencode([tuple(pair) for pair in query])}" if query else "")
        status, headers, answer = send(recorded["method"], path, data)
        if recorded["method"] == "PUT" and recorded["status"] == 200 and status == 403:
            refused = True
            if not json.loads(answer).get("error_code"):
                yield f"{recorded['id']}: no error code"
            continue
        try:
            _same(recorded, status, headers, answer, refused=refused)
        except AssertionError as e:
            yield f"{recorded['id']} {path} {data!r}: {str(e)[:2000]}"


def _resolved(ref: Mapping[str, Any], send: Send) -> str:
    if ref["kind"] == "interval":
        _, _, answer = send(
            "GET", f"{PREFIX}/datavisual/landscape/intervals?" + urlencode({"train_id": ref["train_id"]}), None
        )
        return next(str(i["id"]) for i in json.loads(answer)["intervals"] if i["value"] == ref["value"])
    _, _, answer = send("POST", f"{PREFIX}/lineagemgr/lineages", b"{}")
    items = json.loads(answer)["object"]
    return next(
        str(item["model_lineage"]["dataset_mark"]) for item in items if item["summary_dir"] == ref["summary_dir"]
    )


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(inner, old, new) for name, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, old, new) for inner in value]
    return new if value == old else value


def refuse_constant(name: str) -> object:
    """Fail on what is no JSON."""
    raise AssertionError(f"bare {name} in JSON")


def _same(
    recorded: Mapping[str, Any], status: int, headers: Mapping[str, str], answer: bytes, *, refused: bool
) -> None:
    if "error-unspecified" in (recorded.get("rules") or ()):
        if status >= 400:
            assert json.loads(answer)["error_code"]
            return
        if recorded["status"] >= 400:
            return  # better than the original
    assert recorded["status"] == status, (recorded["status"], status, answer[:300])
    if "binary" in recorded:
        _same_bytes(recorded, headers, answer)
        return
    assert headers["Content-Type"] == "application/json"
    assert answer.endswith(b"\n")
    answer.decode("ascii")
    made, wanted = json.loads(answer, parse_constant=refuse_constant), recorded["json"]
    if status >= 400:
        assert set(made) == {"error_code", "error_msg"}
        assert wanted["error_code"] == made["error_code"], made
        return
    family, path = recorded["family"], recorded["path"]
    if refused and "object" in made:
        for found in (wanted, made):
            for item in found["object"]:
                item.pop("added_info", None)
        if (recorded.get("body") or {}).get("sorted_name") == "tag":
            assert wanted["count"] == made["count"]
            return
    _compare(wanted, made, family, path, "$")


def _same_bytes(recorded: Mapping[str, Any], headers: Mapping[str, str], answer: bytes) -> None:
    wanted = recorded["binary"]
    assert recorded["headers"]["Content-Type"] == headers["Content-Type"]
    if "pixels_zlib_b64" not in wanted:
        assert (wanted["length"], wanted["sha256"]) == (len(answer), hashlib.sha256(answer).hexdigest())
        return
    import base64

    from PIL import Image

    picture = Image.open(io.BytesIO(answer))
    assert (wanted["width"], wanted["height"], wanted["channels"]) == (*picture.size, len(picture.getbands()))
    assert zlib.decompress(base64.b64decode(wanted["pixels_zlib_b64"])) == picture.tobytes()


_FREE = {"load_status", "cache_status", "dataset_mark"}


def _compare(wanted: Any, made: Any, family: str, path: str, at: str) -> None:
    if isinstance(wanted, dict):
        assert isinstance(made, dict), at
        ignored = set(_FREE)
        if wanted.get("cache_status") == "NOT_IN_CACHE":
            ignored |= {"plugins", "is_integrity"}
        if (wanted.get("graph_files") or 0) > 0 or path.endswith("/explain-job"):
            ignored.add("create_time")
        if path.endswith("/explain-job") and wanted.get("train_id") == "":
            ignored.add("update_time")  # of the directory itself, which was not recorded
        assert set(wanted) == set(made), (at, set(wanted) ^ set(made))
        assert list(made) == [name for name in made if name in wanted], at
        for name, value in wanted.items():
            if name == "id" and path.endswith("/intervals"):
                assert isinstance(made[name], str)
            elif name not in ignored:
                _compare(value, made[name], family, path, f"{at}.{name}")
        return
    if isinstance(wanted, list):
        assert isinstance(made, list), (at, made)
        if _may_be_more(wanted, made, family, path, at):
            return
        assert len(wanted) == len(made), (at, len(wanted), len(made), str(wanted)[:300], str(made)[:300])
        for place, (one, other) in enumerate(zip(wanted, made, strict=True)):
            _compare(one, other, family, path, f"{at}[{place}]")
        return
    if isinstance(wanted, float) and math.isnan(wanted):
        assert made == "NaN", (at, made)
    elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
        assert isinstance(made, int | float), (at, wanted, made)
        assert not isinstance(made, bool), at
        assert math.isclose(wanted, made, rel_tol=1e-6, abs_tol=1e-12), (at, wanted, made)
    else:
        assert wanted == made, (at, wanted, made)


def _may_be_more(wanted: list[Any], made: list[Any], family: str, path: str, at: str) -> bool:
    """Hold a list of what the original samples, or drops, against one that has it all."""
    if wanted and all(isinstance(one, str) for one in wanted) and made != wanted:
        limit = {"tensor": _TENSOR_TAGS, "graph": _GRAPH_TAGS, "optimized_graph": _GRAPH_TAGS}.get(
            at.rpartition(".")[2], _TAGS
        )
        if len(wanted) >= min(limit, _TENSOR_TAGS if "/tensor" in wanted[0] else limit):
            assert sorted(made) == made or "graph" in at, at
            assert set(wanted) <= set(made), (at, set(wanted) - set(made))
            return True
        return False
    if not wanted or not isinstance(wanted[0], dict) or "step" not in wanted[0] or len(made) <= len(wanted):
        return False
    kind = next(kind for kind in _SAMPLED if f"/{kind}" in path)
    assert len(wanted) == _SAMPLED[kind], (at, len(wanted), len(made))
    steps = [one["step"] for one in made]
    assert steps == sorted(set(steps)), at
    by_step = {one["step"]: one for one in made}
    for one in wanted:
        other = by_step[one["step"]]
        if "buckets" in one:
            assert one["wall_time"] == other["wall_time"], at
            assert sum(count for _, _, count in other["buckets"]) >= 0, at
        elif kind == "tensor" and "histogram_buckets" in one["value"]:
            assert one["value"]["statistics"]["count"] == other["value"]["statistics"]["count"], at
        else:
            _compare(one, other, family, path, f"{at}<{one['step']}>")
    return True
