"""The explainer: jobs, samples with saliency maps or occlusion, scores of explainers, pictures."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection

from indexer.plugins import image as image_kind
from webapi import address
from webapi.mindinsight import catalogue, errors, explanations, overlays
from webapi.mindinsight.answers import Content, when
from webapi.mindinsight.catalogue import JobRow, Root
from webapi.mindinsight.context import Context
from webapi.mindinsight.explanations import File, Inference, Layers, Maps, Sample
from webapi.mindinsight.images import content_type
from webapi.mindinsight.parameters import Page, Query, body, integer, listed, page

MOST_JOBS, MOST_SAMPLES = 999, 100
MOST_IMAGE_BYTES = 256 * 2**20
_SORTED = ("", "confidence", "uncertainty")
_ORDERS = ("ascending", "descending")
_PREDICTIONS = ("TP", "FN", "FP")
_OUTCOME = re.compile(r"(\d{1,10})_(.+)_(\d{1,10})\.jpg", re.DOTALL | re.ASCII)
_TYPES = ("original", "overlay", "outcome")
_DIGITS = 6


# Jobs -----------------------------------------------------------------------------------------------------------------
def explain_jobs(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """List explain jobs, those changed last first."""
    wanted = query.page(limit=10, most=MOST_JOBS)
    root = catalogue.root(conn)
    found = explanations.jobs(conn, root)
    return {
        "name": root.name,
        "total": len(found),
        "explain_jobs": [
            job._asdict() | {"create_time": when(job.create_time), "update_time": when(job.update_time)}
            for job in found[wanted.slice]
        ],
    }


def explain_job(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show what an explain job is about."""
    root, train_id, job, file = _job(conn, query.text("train_id"))
    labels, counts = {}, {}
    methods: dict[str, list[str]] = {"explainer": [], "metric": []}
    if file is not None:
        labels, counts = explanations.labels(conn, file), explanations.class_counts(conn, file)
        methods = explanations.methods(conn, file)
    created, modified = _directory_times(root.path / train_id, job)
    none = (0, 0, 0)
    return {
        "train_id": train_id,
        "create_time": when(created),
        "update_time": when(modified),
        "sample_count": 0 if file is None else file.sample_count,
        "classes": [
            {
                "id": label,
                "label": name,
                **dict(
                    zip(
                        ("sample_count", "saliency_sample_count", "hoc_sample_count"),
                        counts.get(label, none),
                        strict=True,
                    )
                ),
            }
            for label, name in labels.items()
        ],
        "saliency": {
            "min_confidence": explanations.CONFIDENT,
            "explainers": methods["explainer"],
            "metrics": methods["metric"],
        },
        "uncertainty": {"enabled": file is not None and file.uncertainty},
        "status": explanations.status(job.cache_status, file),
    }


def _directory_times(path: Path, job: JobRow) -> tuple[float | None, float | None]:
    """Return when the inode of a directory changed, and when it was modified; of one that is gone what is known."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return job.create_time, job.update_time
    return status.st_ctime, status.st_mtime


def _job(conn: Connection, train_id: object) -> tuple[Root, str, JobRow, File | None]:
    """Return a job, of whatever files, and its explain file that counts."""
    if train_id is None:
        raise errors.missing("train_id")
    if not isinstance(train_id, str):
        raise errors.wrong_type("train_id", "<class 'str'>")
    root = catalogue.root(conn)
    job = catalogue.directory(conn, root, train_id)
    if job is None:
        catalogue.must_be_ready(conn, root)
        raise errors.no_job(train_id)
    return root, train_id, job, explanations.file(conn, job.id)


def evaluation(_context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show how good explainers are."""
    _, _, _, file = _job(conn, query.text("train_id"))
    if file is None:
        return {"explainer_scores": []}
    names = explanations.labels(conn, file)
    totals: dict[str, list[dict[str, Any]]] = {}
    classes: dict[str, dict[int, list[dict[str, Any]]]] = {}
    for explainer, metric, label, score in explanations.scores(conn, file):
        shown = {"metric": metric, "score": "NaN" if score is None else round(score, _DIGITS)}
        of = totals.setdefault(explainer, [])
        by_label = classes.setdefault(explainer, {})
        (of if label < 0 else by_label.setdefault(label, [])).append(shown)
    return {
        "explainer_scores": [
            {
                "explainer": explainer,
                "evaluations": evaluations,
                "class_scores": [
                    {"label": names.get(label, str(label)), "evaluations": of_label}
                    for label, of_label in sorted(classes[explainer].items())
                ],
            }
            for explainer, evaluations in totals.items()
        ]
    }


# Samples --------------------------------------------------------------------------------------------------------------
class Wanted:
    """What a request for samples says."""

    def __init__(self, given: Any, *, occlusion: bool) -> None:
        if not isinstance(given, dict):
            raise errors.wrong_value("The request body should be a dict.")
        self.train_id = given.get("train_id")
        if self.train_id is None:
            raise errors.missing("train_id")
        self.labels = listed(given, "labels")
        self.explainers = None if occlusion else _explainers(given)
        number, limit = (
            default if given.get(name) is None else integer(name, given[name])
            for name, default in (("offset", 0), ("limit", 10))
        )
        self.page: Page = page(number, limit, MOST_SAMPLES)
        self.sorted_name = _choice(given, "sorted_name", _SORTED, "")
        self.descending = _choice(given, "sorted_type", _ORDERS, "descending") == "descending"
        types = given.get("prediction_types")
        if types is not None and not isinstance(types, list):
            raise errors.wrong_type("element of labels", "<class 'list'>")
        for one in types or ():
            if one not in _PREDICTIONS:
                raise _invalid("element of prediction_types", _PREDICTIONS, one)
        self.types = None if not types or len(types) >= len(_PREDICTIONS) else frozenset(types)
        self.drop_empty = given.get("drop_empty", True) if occlusion else False
        if not isinstance(self.drop_empty, bool):
            raise errors.wrong_type("drop_empty", "<class 'bool'>")


def _explainers(given: Mapping[str, Any]) -> list[str] | None:
    if not isinstance(given.get("explainers"), list | None):
        raise errors.wrong_type("explainers", "(<class 'list'>, None)")
    return listed(given, "explainers")


def _choice(given: Mapping[str, Any], name: str, choices: Sequence[str], default: str) -> str:
    value = given.get(name, default)
    if value not in choices:
        raise _invalid(name, choices, value)
    return str(value)


def _invalid(name: str, choices: Sequence[str], value: Any) -> errors.Failure:
    return errors.wrong_value(f"Valid options for {name} are {tuple(choices)}, but got {value}.")


def saliency(context: Context, conn: Connection, data: bytes) -> Mapping[str, Any]:
    """Show samples with saliency maps."""
    wanted = Wanted(body(data), occlusion=False)
    located = _address(context, str(wanted.train_id))

    def shown(maps: Sequence[tuple[str, str]], _sample: Sample, _label: str, layers: Sequence[Any]) -> dict[str, Any]:
        chosen = [(e, path) for e, path in maps if not wanted.explainers or e in wanted.explainers]
        return {
            "saliency_maps": [{"explainer": e, "overlay": located(path, "overlay")} for e, path in chosen],
            "hoc_layers": [{"confidence": one.confidence, "boxes": one.boxes} for one in layers] or {},
        }

    return _samples(conn, wanted, located, shown)


def occlusion(context: Context, conn: Connection, data: bytes) -> Mapping[str, Any]:
    """Show samples with hierarchical occlusion."""
    wanted = Wanted(body(data), occlusion=True)
    located = _address(context, str(wanted.train_id))

    def shown(maps: Sequence[tuple[str, str]], sample: Sample, label: str, layers: Sequence[Any]) -> dict[str, Any]:
        return {
            "saliency_maps": [{"explainer": e, "overlay": path} for e, path in maps],
            "hoc_layers": [
                {
                    "confidence": one.confidence,
                    "boxes": one.boxes,
                    "outcome": located(f"{sample.id}_{label}_{number}.jpg", "outcome"),
                }
                for number, one in enumerate(layers)
            ],
        }

    return _samples(conn, wanted, located, shown)


def _address(context: Context, train_id: str) -> Callable[[str, str], str]:
    """Return what makes addresses of pictures."""
    base = f"{address.root()}{context.base}" if context.linked is None else context.linked

    def made(path: str, kind: str) -> str:
        query = urlencode({"train_id": train_id, "path": path, "type": kind}, errors="surrogateescape")
        return f"{base}/explainer/image?{query}"

    return made


def _samples(
    conn: Connection,
    wanted: Wanted,
    located: Callable[[str, str], str],
    shown: Callable[[Sequence[tuple[str, str]], Sample, str, Sequence[Any]], dict[str, Any]],
) -> Mapping[str, Any]:
    _, _, _, file = _job(conn, wanted.train_id)
    if wanted.sorted_name == "uncertainty" and (file is None or not file.uncertainty):
        raise errors.wrong_value("Uncertainty is not enabled, sorted_name cannot be 'uncertainty'")
    if file is None:
        return {"count": 0, "samples": []}
    names = explanations.labels(conn, file)
    chosen = explanations.samples(conn, file)
    occluded = explanations.occluded(conn, file) if wanted.drop_empty else None
    if occluded is not None:
        chosen = [sample for sample in chosen if any((sample.id, i.label) in occluded for i in sample.inferences)]
    labels = {label for label, name in names.items() if name in wanted.labels} if wanted.labels else None
    chosen = _filtered(chosen, wanted, labels)
    part = chosen[wanted.page.slice]
    maps, layers = explanations.maps(conn, file, part), explanations.layers(conn, file, part)
    items = [
        {
            "id": sample.id,
            "name": str(sample.id),
            "image": located(sample.image_path, "original"),
            "inferences": [
                _inference(sample, one, file, names, maps, layers, shown)
                for one in sample.inferences
                if occluded is None or (sample.id, one.label) in occluded
            ],
        }
        for sample in part
    ]
    return {"count": len(chosen), "samples": items}


def _filtered(samples: Sequence[Sample], wanted: Wanted, labels: set[int] | None) -> list[Sample]:
    found = list(samples)
    if labels is not None:
        found = [sample for sample in found if any(i.label in labels for i in sample.inferences)]
    if wanted.types is not None:
        found = [sample for sample in found if any(i.prediction_type in wanted.types for i in sample.inferences)]
    if wanted.sorted_name:

        def key(sample: Sample) -> float:
            among = [i for i in sample.inferences if labels is None or i.label in labels]
            values = [(i.confidence if wanted.sorted_name == "confidence" else i.sd) or 0.0 for i in among]
            return (max if wanted.descending else min)(values, default=0.0)

        found.sort(key=key, reverse=wanted.descending)
    return found


def _inference(
    sample: Sample,
    one: Inference,
    file: File,
    names: Mapping[int, str],
    maps: Maps,
    layers: Layers,
    shown: Callable[[Sequence[tuple[str, str]], Sample, str, Sequence[Any]], dict[str, Any]],
) -> dict[str, Any]:
    label, key = names.get(one.label, str(one.label)), (sample.id, one.label)
    found = {
        "label": label,
        "confidence": round(one.confidence, _DIGITS),
        **shown(maps.get(key, ()), sample, label, layers.get(key, ())),
        "prediction_type": one.prediction_type,
    }
    if file.uncertainty:
        found["confidence_sd"] = round(one.sd or 0.0, _DIGITS)
        found["confidence_itl95"] = [round(end or 0.0, _DIGITS) for end in (one.low, one.high)]
    return found


# Pictures -------------------------------------------------------------------------------------------------------------
def image(_context: Context, conn: Connection, query: Query) -> Content:
    """Return a picture: of a sample, of a saliency map, or of what is left of a sample."""
    train_id, path, kind = (query.required(name) for name in ("train_id", "path", "type"))
    if kind not in _TYPES:
        raise errors.wrong_value(f"type:{kind}, valid options: {' '.join(map(repr, _TYPES))}")
    missing = errors.no_image(f"train_id:{train_id} path:{path} type:{kind}")
    root = catalogue.root(conn)
    try:
        if kind == "original":
            data = _bytes(root, train_id, path, missing)
        elif kind == "overlay":
            data = overlays.overlay(_bytes(root, train_id, path, missing))
        else:
            data = _outcome(conn, root, train_id, path, missing)
    except ValueError:  # it is no picture, or none of the kind
        raise missing from None
    return Content(data, content_type(data))


def _outcome(conn: Connection, root: Root, train_id: str, path: str, missing: errors.Failure) -> bytes:
    match = _OUTCOME.fullmatch(path)
    job = catalogue.directory(conn, root, train_id)
    file = None if job is None else explanations.file(conn, job.id)
    if match is None or file is None:
        raise missing
    number, wanted, layer = int(match.group(1)), match.group(2), int(match.group(3))
    sample = explanations.one(conn, file, number) if number < 2**31 else None
    label = next((label for label, name in explanations.labels(conn, file).items() if name == wanted), None)
    if sample is None or label is None:
        raise missing
    layers = explanations.layers(conn, file, [sample]).get((sample.id, label), ())
    if layer >= len(layers):
        raise missing
    original = _bytes(root, train_id, sample.image_path, missing)
    return overlays.outcome(original, layers[layer].mask, layers[layer].boxes)


def _bytes(root: Root, train_id: str, path: str, missing: errors.Failure) -> bytes:
    """Return a picture's file, from within the directory that is shown, links resolved."""
    try:
        base = root.path.resolve()
        found = (base / train_id / path).resolve()
        if not found.is_relative_to(base):
            raise errors.forbidden("Forbidden.")
        status = found.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_IMAGE_BYTES:
            raise missing
        data = found.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL inside
        raise missing from None
    except (OSError, RuntimeError) as e:  # RuntimeError: a loop of links, before Python 3.13
        raise errors.forbidden(f"{getattr(e, 'strerror', None) or 'it cannot be read'}.") from None
    if image_kind.sniff(data).error is not None:  # what a request says is no reason to show any other file
        raise missing
    return data
