"""REST v1 for explain files: samples with what the network thinks of them, maps, scores, and records as written.

Images lie beside the files, by paths that the files give. They are only served from within the directory of their job,
and only where they begin like an image: what a file says is no reason to show any other.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from sqlalchemy import Connection
from werkzeug.wrappers import Response

from indexer import text as names
from indexer.db.engine import read_only
from indexer.payload import OCTETS
from indexer.plugins import image
from webapi import explained, headers, queries, respond, v1
from webapi.address import root
from webapi.errors import Unknown
from webapi.parameters import MAX_NAME, Kind, Parameter, Values
from webapi.v1 import AFTER, FROM_STEP, JOB, LIMIT, TO_STEP, Route, Site

if TYPE_CHECKING:
    from flask import Flask

MOST = 10_000
"""Labels, scores, inferences, maps or layers that an answer about one file or sample shows."""
INFERENCES_A_PAGE = 100_000
"""Inferences that a list of samples shows; those that do not fit are left to the samples' own address."""
ERRORS_A_FILE = 100
_HEADER_BYTES = 2**20  # of an image: its type is in there
_CHUNK_BYTES = 2**18
_LAST_SAMPLE, _LAST_OFFSET = 2**31 - 1, 2**63 - 1
_FRAME_BYTES = 12  # before the payload of a record

# Routes ---------------------------------------------------------------------------------------------------------------
FILES_CHOICE = Parameter(
    "files",
    Kind.CHOICE,
    "`latest`: only the explain file of each job that counts, as MindInsight shows it: that with the largest timestamp"
    " in its name; `all`: older ones too.",
    default="latest",
    choices=("latest", "all"),
)
FILE_NAME = Parameter("tag", Kind.TEXT, "Name of an explain file.", repeatable=True, max_length=MAX_NAME)
SAMPLES = Route(
    "/explain",
    "explain",
    "Explained samples",
    "Samples of MindSpore's explain files, by file and number. `url` gives the image as it lies beside the file, while"
    " it does; null where the file names none. A page may hold fewer items than `limit`: go on while there is `next`.",
    (
        JOB,
        FILE_NAME,
        FILES_CHOICE,
        Parameter("label", Kind.TEXT, "Only samples with an inference of the label of this name.", max_length=MAX_NAME),
        FROM_STEP,
        TO_STEP,
        LIMIT,
        AFTER,
    ),
    "ExplainSamplePage",
    (404,),
    of_jobs=True,
)
FILES = Route(
    "/explain/files",
    "explain-files",
    "Explain files",
    "What explain jobs there are: each file with what it holds and how far it is.",
    (JOB, FILES_CHOICE, LIMIT, AFTER),
    "ExplainFilePage",
    (404,),
    of_jobs=True,
)
FILE = Route(
    "/explain/files/{file}",
    "explain-file",
    "One explain file",
    f"A file with its labels, explainers, metrics and scores (at most {MOST:,} of each) and what was wrong in it.",
    (),
    "ExplainFileDetail",
    (404,),
)
SAMPLE = Route(
    "/explain/{file}/{sample}",
    "explain-sample",
    "One explained sample",
    f"A sample with its inferences, saliency maps and layers of hierarchical occlusion (at most {MOST:,} of each).",
    (),
    "ExplainSampleDetail",
    (404,),
)
IMAGE = Route(
    "/explain/{file}/{sample}/image",
    "explain-image",
    "Image of a sample",
    "The bytes of the image, from the directory of the job; 404 where they are not there, or are no image.",
    (),
    "",
    (404,),
)
MAP = Route(
    "/explain/{file}/{sample}/saliency",
    "explain-saliency",
    "A saliency map",
    "The bytes of the map of a label by an explainer, from the directory of the job.",
    (
        Parameter("label", Kind.INTEGER, "Number of the label.", minimum=-(2**31), maximum=2**31 - 1, example="0"),
        Parameter("explainer", Kind.TEXT, "Name of the explainer.", max_length=MAX_NAME, example="Gradient"),
    ),
    "",
    (404,),
)
RECORDS = Route(
    "/explain/records",
    "explain-records",
    "Records of explain files",
    "Records in file order. `url` gives the payload as written. `error` says what of it could not be made into rows.",
    (
        JOB,
        FILE_NAME,
        FILES_CHOICE,
        Parameter("errors", Kind.CHOICE, "`only` those with an error.", default="all", choices=("all", "only")),
        LIMIT,
        AFTER,
    ),
    "ExplainRecordPage",
    (404,),
    of_jobs=True,
)
RECORD = Route(
    "/explain/records/{file}/{offset}",
    "explain-record",
    "Bytes of a record",
    "The payload as written: a serialized Event. What is too long for the database is read from its file.",
    (),
    "",
    (404,),
)
ROUTES = (SAMPLES, FILES, FILE, SAMPLE, IMAGE, MAP, RECORDS, RECORD)


def mount(
    app: Flask,
    site: Site,
    values_of: Callable[[Route], Values],
    answer: v1.Conditional,
) -> None:
    """Add the routes to the application. `answer` makes conditional answers of JSON, `values_of` reads the query."""

    def listed(route: Route, view: Callable[[Site, Connection, Values], Response]) -> None:
        def call() -> Response:
            values = values_of(route)
            return answer(lambda conn: view(site, conn, values), v1.of_named_jobs(route, values))

        app.add_url_rule(v1.BASE + route.path, route.name, call, methods=["GET"])

    listed(SAMPLES, samples)
    listed(FILES, files)
    listed(RECORDS, records)

    @app.get(f"{v1.BASE}/explain/files/<int:file>")
    def explain_file(file: int) -> Response:
        values_of(FILE)
        return answer(lambda conn: one_file(site, conn, file))

    @app.get(f"{v1.BASE}/explain/<int:file>/<int(signed=True):sample>")
    def explain_sample(file: int, sample: int) -> Response:
        values_of(SAMPLE)
        return answer(lambda conn: one_sample(site, conn, file, sample))

    def bytes_of(path: Callable[[Connection], str | None], file: int) -> Response:
        from flask import request

        with read_only(site.engine, seconds=site.config.query_seconds) as conn:
            queries.state(conn)
            stored = path(conn)
            job = str(_known_file(conn, file).job_id)
            site.tell(queries.named(conn, [job])[job])
            opened = _open(conn, file, stored)
        mark = respond.entity_tag(request, site.version, *opened.identity)
        if request.if_none_match.contains_weak(mark):
            opened.close()
            return respond.unchanged(mark, headers.PAYLOAD_POLICY)
        return respond.tagged(opened.response(), mark)

    @app.get(f"{v1.BASE}/explain/<int:file>/<int(signed=True):sample>/image")
    def explain_image(file: int, sample: int) -> Response:
        values_of(IMAGE)
        return bytes_of(lambda conn: _sample(conn, file, sample).image_path, file)

    @app.get(f"{v1.BASE}/explain/<int:file>/<int(signed=True):sample>/saliency")
    def explain_saliency(file: int, sample: int) -> Response:
        values = values_of(MAP)
        label, explainer = values.count("label"), values.word("explainer")

        def path(conn: Connection) -> str | None:
            return explained.map_path(conn, *_key(file, sample), label, explainer)

        return bytes_of(path, file)

    @app.get(f"{v1.BASE}/explain/records/<int:file>/<int:offset>")
    def explain_record(file: int, offset: int) -> Response:
        values_of(RECORD)
        return answer(lambda conn: one_record(conn, file, offset))


# Lists ----------------------------------------------------------------------------------------------------------------
def _chosen(site: Site, conn: Connection, values: Values, tags: tuple[str, ...] = ()) -> explained.Wanted:
    """Return the files that a request names. Unknown where there is no such job, or none has such a file."""
    among = queries.jobs_of(conn, queries.SeriesWanted(1, values.texts("job")))
    site.tell(among or ())
    wanted = explained.Wanted(among, tags, values.word("files") == "latest")
    if tags and not explained.files(conn, explained.Wanted(among, tags, latest=False), limit=1, behind=0)[0]:
        raise Unknown("tag", "none of these jobs has an explain file of this name: /api/v1/explain/files lists them")
    return wanted


def _files_from(
    conn: Connection, wanted: explained.Wanted, after: tuple[int, int] | None, last: int
) -> tuple[list[explained.FileRow], bool]:
    """Return the next files to look into, and whether more follow: behind that of `after` where it was its last."""
    behind = -1 if after is None else after[0] - (after[1] != last)
    return explained.files(conn, wanted, limit=explained.FILES_A_PAGE, behind=behind)


def samples(site: Site, conn: Connection, values: Values) -> Response:
    """Render `/explain`."""
    after = None
    if (given := values.text("after")) is not None:
        file, number = respond.position(given, "explain", respond.Small, int)
        after = (file, min(max(number, -(2**31)), _LAST_SAMPLE))
    wanted = _chosen(site, conn, values, values.texts("tag"))
    found, more_files = _files_from(conn, wanted, after, _LAST_SAMPLE)
    steps = (values.integer("from_step"), values.integer("to_step"))
    page = explained.Samples(values.count("limit"), *steps, values.text("label"), after)
    rows, more = explained.samples(conn, page, found)
    following = None
    if more:
        following = (rows[-1].shard_id, rows[-1].sample_id)
    elif more_files:
        following = (found[-1].shard_id, _LAST_SAMPLE)
    thoughts = explained.inferences(conn, rows, most=INFERENCES_A_PAGE)
    by_id = {row.shard_id: row for row in found}
    items = [_item(by_id[row.shard_id], row, thoughts.get((row.shard_id, row.sample_id))) for row in rows]
    return _page(items, None if following is None else respond.cursor("explain", *following))


def files(site: Site, conn: Connection, values: Values) -> Response:
    """Render `/explain/files`."""
    behind = -1
    if (given := values.text("after")) is not None:
        (behind,) = respond.position(given, "explain-files", respond.Small)
    rows, more = explained.files(conn, _chosen(site, conn, values), limit=values.count("limit"), behind=behind)
    return _page(list(map(_file, rows)), respond.cursor("explain-files", rows[-1].shard_id) if more else None)


def records(site: Site, conn: Connection, values: Values) -> Response:
    """Render `/explain/records`."""
    after = None
    if (given := values.text("after")) is not None:
        file, offset = respond.position(given, "explain-records", respond.Small, int)
        after = (file, offset)
    wanted = _chosen(site, conn, values, values.texts("tag"))
    found, more_files = _files_from(conn, wanted, after, _LAST_OFFSET)
    wrong = values.word("errors") == "only"
    rows, more = explained.records(conn, found, limit=values.count("limit"), after=after, wrong=wrong)
    following = None
    if more:
        following = (rows[-1].shard_id, rows[-1].offset)
    elif more_files:
        following = (found[-1].shard_id, _LAST_OFFSET)
    by_id = {row.shard_id: row for row in found}
    items = [
        {
            **_names(by_id[row.shard_id]),
            "offset": row.offset,
            "bytes": row.length,
            "step": row.step,
            "wall_time": row.wall_time,
            "sample": row.sample_id,
            "error": None if row.error is None else names.show(row.error),
            "stored": "database" if row.stored else "file",
            "url": f"{root()}{v1.BASE}/explain/records/{row.shard_id}/{row.offset}",
        }
        for row in rows
    ]
    return _page(items, None if following is None else respond.cursor("explain-records", *following))


def _page(items: list[dict[str, Any]], following: str | None) -> Response:
    return Response(respond.encode({"items": items, "next": following}), content_type=respond.JSON)


# One ------------------------------------------------------------------------------------------------------------------
def one_file(site: Site, conn: Connection, shard_id: int) -> Response:
    """Render `/explain/files/{file}`."""
    row = _known_file(conn, shard_id)
    site.tell(queries.named(conn, [str(row.job_id)])[str(row.job_id)])
    labels = explained.labels(conn, shard_id, limit=MOST + 1)
    methods = explained.methods(conn, shard_id, limit=MOST + 1)
    scores = explained.scores(conn, shard_id, limit=MOST + 1)
    errors, _ = explained.records(conn, [row], limit=ERRORS_A_FILE, after=None, wrong=True)
    body = _file(row) | {
        "labels": [{"label": label, "name": names.show(name)} for label, name in labels[:MOST]],
        "explainers": [names.show(name) for kind, name in methods[:MOST] if kind == "explainer"],
        "metrics": [names.show(name) for kind, name in methods[:MOST] if kind == "metric"],
        "scores": [
            {
                "explainer": names.show(s.explainer),
                "metric": names.show(s.metric),
                "label": None if s.label < 0 else s.label,
                "name": _shown(s.name),
                "score": "NaN" if s.score is None else s.score,
            }
            for s in scores[:MOST]
        ],
        "errors": [{"offset": error.offset, "reason": names.show(error.error or "")} for error in errors],
        "truncated": max(len(labels), len(methods), len(scores)) > MOST,
    }
    return Response(respond.encode(body), content_type=respond.JSON)


def one_sample(site: Site, conn: Connection, shard_id: int, sample_id: int) -> Response:
    """Render `/explain/{file}/{sample}`."""
    row = _sample(conn, shard_id, sample_id)
    file = _known_file(conn, shard_id)
    site.tell(queries.named(conn, [str(file.job_id)])[str(file.job_id)])
    thoughts = explained.inferences(conn, [row], most=MOST).get((shard_id, sample_id))
    maps = explained.saliency(conn, row, limit=MOST + 1)
    layers = explained.hoc(conn, row, limit=MOST + 1)
    body = _item(file, row, thoughts) | {
        "saliency_maps": [
            {
                "explainer": names.show(m.explainer),
                "label": m.label,
                "name": _shown(m.name),
                "path": names.show(m.path),
                "url": _map_url(row, m),
            }
            for m in maps[:MOST]
        ],
        "hoc": [
            {
                "label": h.label,
                "name": _shown(h.name),
                "mask": names.show(h.mask),
                "layer": h.layer,
                "probability": h.probability,
                "boxes": explained.boxes(h),
            }
            for h in layers[:MOST]
        ],
        "truncated": thoughts is None or max(len(maps), len(layers)) > MOST,
    }
    return Response(respond.encode(body), content_type=respond.JSON)


def one_record(conn: Connection, shard_id: int, offset: int) -> Response:
    """Render `/explain/records/{file}/{offset}`."""
    row = explained.record(conn, shard_id, offset) if shard_id < 2**31 and offset < 2**63 else None
    if row is None:
        raise Unknown("offset", "there is no such record: /api/v1/explain/records lists them")
    answer = Response(content_type=OCTETS)
    answer.headers["Content-Disposition"] = f'attachment; filename="explain-{shard_id}-{offset}.bin"'
    if row.stored:
        answer.set_data(explained.payload(conn, row))
        return answer
    gone = Unknown("offset", "this record was too long for the database, and its file is not what it was or not here")
    where = explained.place(conn, shard_id)
    if where is None:
        raise gone
    try:
        opened = _Opened(where[0] / where[1])
    except (OSError, ValueError) as e:
        raise gone from e
    if not opened.holds(offset, row.length):
        opened.close()
        raise gone
    opened.part(offset + _FRAME_BYTES, row.length)
    answer.response = opened.chunks()
    answer.call_on_close(opened.close)
    answer.headers["Content-Length"] = str(row.length)
    return answer


def _key(shard_id: int, sample_id: int) -> tuple[int, int]:
    if shard_id >= 2**31 or not -(2**31) <= sample_id < 2**31:
        raise Unknown("sample", "there is no such sample: /api/v1/explain lists them")
    return shard_id, sample_id


def _sample(conn: Connection, shard_id: int, sample_id: int) -> explained.SampleRow:
    row = explained.sample(conn, *_key(shard_id, sample_id))
    if row is None:
        raise Unknown("sample", "there is no such sample: /api/v1/explain lists them")
    return row


def _known_file(conn: Connection, shard_id: int) -> explained.FileRow:
    row = explained.file(conn, shard_id) if shard_id < 2**31 else None
    if row is None:
        raise Unknown("file", "there is no such explain file: /api/v1/explain/files lists them")
    return row


# Items ----------------------------------------------------------------------------------------------------------------
def _names(file: explained.FileRow) -> dict[str, Any]:
    return {
        "job": file.job_id,
        "train_id": file.train_id,
        "tag": names.show(file.name),
        "file": file.shard_id,
        "latest": file.latest,
    }


def _file(row: explained.FileRow) -> dict[str, Any]:
    return {
        **_names(row),
        "cache_status": row.cache_status,
        "state": row.state,
        "status": _shown(row.status),
        "label_count": row.label_count,
        "sample_count": row.sample_count,
        "record_count": row.record_count,
        "error_count": row.error_count,
        "saliency": row.saliency,
        "hoc": row.hoc,
        "uncertainty": row.uncertainty,
        "wall_time": row.wall_time,
        "manifest": None if row.manifest is None else json.loads(names.show(row.manifest)),
        "url": f"{root()}{v1.BASE}/explain/files/{row.shard_id}",
    }


def _item(
    file: explained.FileRow, row: explained.SampleRow, thoughts: list[explained.InferenceRow] | None
) -> dict[str, Any]:
    truth = [t for t in thoughts or () if t.role == "ground_truth"]
    return {
        **_names(file),
        "plugin": "explain",
        "step": row.step,
        "seq": 0,
        "wall_time": row.wall_time,
        "ordinal": row.sample_id,
        "metadata": {
            "image_path": _shown(row.image_path),
            "ground_truth": [_shown(t.name) for t in truth],
        },
        "inferences": None if thoughts is None else [t._asdict() | {"name": _shown(t.name)} for t in thoughts],
        "detail": f"{root()}{v1.BASE}/explain/{row.shard_id}/{row.sample_id}",
        "url": None if row.image_path is None else f"{root()}{v1.BASE}/explain/{row.shard_id}/{row.sample_id}/image",
    }


def _map_url(row: explained.SampleRow, found: explained.SaliencyRow) -> str:
    wanted = urlencode({"label": found.label, "explainer": names.show(found.explainer)}, errors="surrogateescape")
    return f"{root()}{v1.BASE}/explain/{row.shard_id}/{row.sample_id}/saliency?{wanted}"


def _shown(name: str | None) -> str | None:
    return None if name is None else names.show(name)


# Files beside the explain files ---------------------------------------------------------------------------------------
class _Opened:
    """An open regular file. OSError or ValueError where there is none."""

    def __init__(self, path: os.PathLike[str]) -> None:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        self.file = os.fdopen(os.open(path, flags), "rb", buffering=0)  # a pipe would make us wait
        status = os.fstat(self.file.fileno())
        if not stat.S_ISREG(status.st_mode):
            self.file.close()
            raise ValueError("not a regular file")
        self.size = self.left = status.st_size
        self.identity = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        self.content_type = OCTETS

    def holds(self, offset: int, length: int) -> bool:
        """Tell whether a whole record of this length begins at `offset`."""
        self.file.seek(offset)
        return self.file.read(8) == length.to_bytes(8, "little") and offset + length + _FRAME_BYTES + 4 <= self.size

    def part(self, start: int, length: int) -> None:
        """Go to the bytes that are wanted: fewer where the file ends before."""
        self.file.seek(start)
        self.left = max(0, min(length, self.size - start))

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes that are wanted."""
        while self.left and (chunk := self.file.read(min(self.left, _CHUNK_BYTES))):
            self.left -= len(chunk)
            yield chunk

    def response(self) -> Response:
        """Return the whole file as an answer."""
        answer = Response(self.chunks(), content_type=self.content_type)
        answer.call_on_close(self.close)
        answer.headers["Content-Length"] = str(self.size)
        answer.headers["Content-Security-Policy"] = headers.PAYLOAD_POLICY
        return answer

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def _open(conn: Connection, shard_id: int, path: str | None) -> _Opened:
    """Return the image that a file names by `path` (as stored). Unknown where it is not there, or no image."""
    gone = Unknown("sample", "no image is named for it, or it is not in the directory of the job, or no image")
    where = None if path is None else explained.place(conn, shard_id)
    if where is None or path is None:
        raise gone
    try:
        directory = where[0].resolve(strict=True)
        real = (directory / names.show(path)).resolve(strict=True)
        if not real.is_relative_to(directory):
            raise gone
        opened = _Opened(real)
    except (OSError, ValueError, RuntimeError) as e:
        raise gone from e
    try:
        header = image.sniff(opened.file.read(_HEADER_BYTES))
        if header.error is not None:
            raise gone
        opened.content_type = header.content_type
        opened.part(0, opened.size)
    except BaseException:
        opened.close()
        raise
    return opened


# The document ---------------------------------------------------------------------------------------------------------
Schema = dict[str, Any]


def _s(kind: str | list[str], description: str, **more: Any) -> Schema:
    return {"type": kind, "description": description, **more}


def _object(properties: Schema, description: str) -> Schema:
    return {"type": "object", "description": description, "properties": properties, "required": list(properties)}


def _list(properties: Schema, description: str, *, null: bool = False) -> Schema:
    kind: str | list[str] = ["array", "null"] if null else "array"
    return {"type": kind, "description": description, "items": _object(properties, "One.")}


def _of(*names_: str) -> Schema:
    return {"enum": list(names_)}


_NULL_TEXT, _NULL_NUMBER = ["string", "null"], ["number", "null"]
_FLOAT: Schema = {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}, {"type": "null"}]}
_LABEL = {
    "label": _s("integer", "Number of the label."),
    "name": _s(_NULL_TEXT, "Its name; null where the metadata has none."),
}


def _float(description: str) -> Schema:
    return {**_FLOAT, "description": description}


_NAMES = {
    "job": _s("integer", "Id of its job."),
    "train_id": _s("string", "train_id of its job."),
    "tag": _s("string", "Name of the explain file."),
    "file": _s("integer", "Id of the explain file."),
    "latest": _s("boolean", "Whether the file is the one of its job that counts."),
}
_FILE = {
    **_NAMES,
    "cache_status": _s("string", "Of its job: how far it is loaded."),
    "state": _s("string", "Of the file: growing, torn, done, dead, missing."),
    "status": _s(_NULL_TEXT, "As written last: run, end."),
    "label_count": _s("integer", "How many labels there are."),
    "sample_count": _s("integer", "Samples with an image."),
    "record_count": _s("integer", "Records that explain something."),
    "error_count": _s("integer", "Of them with something wrong."),
    "saliency": _s("boolean", "Whether there is a saliency map."),
    "hoc": _s("boolean", "Whether there is hierarchical occlusion."),
    "uncertainty": _s("boolean", "Whether there is a standard deviation."),
    "wall_time": _float("When its last record was written; seconds since the epoch, UTC."),
    "manifest": _s(["object", "null"], "The JSON object beside the file; null where there was none."),
    "url": _s("string", "Path of its labels, methods and scores."),
}
_SAMPLE = {
    **_NAMES,
    "plugin": {"const": "explain", "description": "Always `explain`."},
    "step": _s("integer", "Of its first record."),
    "seq": _s("integer", "Always 0."),
    "wall_time": _float("Of its first record; seconds since the epoch, UTC."),
    "ordinal": _s("integer", "Number of the sample."),
    "metadata": _object(
        {
            "image_path": _s(_NULL_TEXT, "As the file has it: relative to the directory of the job."),
            "ground_truth": _s("array", "Names of its true labels.", items={"type": _NULL_TEXT}),
        },
        "What is known of it.",
    ),
    "inferences": _list(
        {
            "role": {**_of("ground_truth", "predicted"), "description": "Whether the label is true, or predicted."},
            **_LABEL,
            "probability": _float("As the network has it; null where it is not written, or NaN."),
            "sd": _float("Its standard deviation."),
            "low": _float("Lower end of its 95 % interval."),
            "high": _float("Upper end."),
        },
        "What the network thinks; null where the answer would be too large.",
        null=True,
    ),
    "detail": _s("string", "Path of the sample with its maps and layers."),
    "url": _s(_NULL_TEXT, "Path of the image's bytes; null where the file names none."),
}
_NEXT = {"type": _NULL_TEXT, "description": "Opaque: send it back as `after` for the next page; null: the end."}


def _pages(item: str) -> Schema:
    items = {"type": "array", "items": {"$ref": f"#/components/schemas/{item}"}, "description": "One page."}
    return _object({"items": items, "next": _NEXT}, "A page of a list.")


_TRUNCATED = _s("boolean", f"Whether something has more than {MOST:,} of its kind.")
SCHEMAS: dict[str, Schema] = {
    "ExplainFile": _object(_FILE, "An explain file."),
    "ExplainSample": _object(_SAMPLE, "An explained sample."),
    "ExplainRecord": _object(
        {
            **_NAMES,
            "offset": _s("integer", "Where the record begins in the file, bytes."),
            "bytes": _s("integer", "Of its payload."),
            "step": _s("integer", "As written."),
            "wall_time": _float("As written; null where it is NaN."),
            "sample": _s(["integer", "null"], "The sample it is about."),
            "error": _s(_NULL_TEXT, "Why it, or a part of it, is in no table but the one of records."),
            "stored": {**_of("database", "file"), "description": "`file`: too long for the database."},
            "url": _s("string", "Path of its payload."),
        },
        "A record of an explain file.",
    ),
    "ExplainFileDetail": _object(
        {
            **_FILE,
            "labels": _list(_LABEL, "Labels."),
            "explainers": _s("array", "Names.", items={"type": "string"}),
            "metrics": _s("array", "Names.", items={"type": "string"}),
            "scores": _list(
                {
                    "explainer": _s("string", "Its name."),
                    "metric": _s("string", "Its name."),
                    "label": _s(["integer", "null"], "Number of the label; null: all together."),
                    "name": _LABEL["name"],
                    "score": _float("The score."),
                },
                "Scores of explainers, in the order of the file.",
            ),
            "errors": _list(
                {
                    "offset": _s("integer", "Where the record begins."),
                    "reason": _s("string", "What is wrong with it."),
                },
                f"The first {ERRORS_A_FILE} records with something wrong.",
            ),
            "truncated": _TRUNCATED,
        },
        "An explain file with what it says of all samples.",
    ),
    "ExplainSampleDetail": _object(
        {
            **_SAMPLE,
            "saliency_maps": _list(
                {
                    "explainer": _s("string", "Its name."),
                    **_LABEL,
                    "path": _s("string", "As the file has it."),
                    "url": _s("string", "Path of the bytes."),
                },
                "Saliency maps, in the order of the file.",
            ),
            "hoc": _list(
                {
                    **_LABEL,
                    "mask": _s("string", "What hides the rest of the image, for instance gaussian:9."),
                    "layer": _s("integer", "Number of the layer: 0, 1, 2 ..."),
                    "probability": _s(_NULL_NUMBER, "Of the label where only the boxes are seen."),
                    "boxes": _s(
                        "array",
                        "x, y, width, height of each; pixels.",
                        items={"type": "array", "items": {"type": "integer"}},
                    ),
                },
                "Layers of hierarchical occlusion.",
            ),
            "truncated": _TRUNCATED,
        },
        "An explained sample with all that is known of it.",
    ),
    "ExplainSamplePage": _pages("ExplainSample"),
    "ExplainFilePage": _pages("ExplainFile"),
    "ExplainRecordPage": _pages("ExplainRecord"),
}
PATH = {
    "file": ("Id of the explain file.", {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}),
    "sample": ("Number of the sample.", {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}),
    "offset": (
        "Where the record begins in its file, bytes.",
        {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1},
    ),
}
"""Parameters in paths: words and schemas."""
