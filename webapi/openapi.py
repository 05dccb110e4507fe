"""The OpenAPI 3.1 document, made from the routes that the parser reads too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from indexer import nodes, payload
from indexer.plugins import KINDS
from indexer.types import CacheStatus, DataClass, Format, ShardKind, ShardState
from webapi import answers, compare, explain, formats, graphs, kinds, live, respond, runs, sql, tables, v1
from webapi.address import root
from webapi.parameters import INT64, MAX_REPEATS, Kind, Parameter
from webapi.v1 import BASE, PAYLOADS, Route

Schema = dict[str, Any]

DOCUMENT = Route(
    "/openapi.json", "openapi", "This document", "The API for programs, as OpenAPI 3.1.", (), "OpenAPI", ()
)
DOCS = Route("/docs", "docs", "This document for people", "A page that needs nothing from elsewhere.", (), "", ())
GROUPS: tuple[tuple[str, str, tuple[Route, ...]], ...] = (
    ("server", "How it is, and this document.", (v1.HEALTH, DOCUMENT, DOCS)),
    ("jobs", "Train jobs, their files and tags.", (v1.JOBS, v1.JOB_DETAIL, v1.JOB_FILES, v1.JOB_TAGS)),
    ("points", "Numbers: curves, raw points, one tag over all jobs.", (v1.SERIES, v1.POINTS, compare.ROUTE)),
    ("runs", "What jobs were trained from and with.", runs.ROUTES),
    ("sql", "Queries of your own.", (sql.ROUTE,)),
    ("payloads", "What is no number, a list a kind, and its bytes.", (*kinds.ROUTES, kinds.BLOB)),
    ("graphs", "What is in a graph.", graphs.ROUTES),
    ("explain", "Explained samples.", explain.ROUTES),
    ("live", "What changes, as it does.", live.ROUTES),
)
"""All routes, as the document and generated clients group them: name, words, routes."""


# Schemas --------------------------------------------------------------------------------------------------------------
def _integer(description: str, **more: object) -> Schema:
    return {"type": "integer", "description": description, **more}


def _text(description: str, **more: object) -> Schema:
    return {"type": "string", "description": description, **more}


def _time(description: str) -> Schema:
    return {"type": ["number", "null"], "description": f"{description} Seconds since the epoch, UTC."}


def _number(description: str) -> Schema:
    """A float: what JSON has no number for is a string."""
    kinds: list[Schema] = [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}, {"type": "null"}]
    return {"anyOf": kinds, "description": description}


def _wall_time(description: str) -> Schema:
    return _number(f"{description} Seconds since the epoch, UTC, as in the file; null where that is NaN.")


def _nullable(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _object(properties: Schema, description: str, optional: Iterable[str] = ()) -> Schema:
    required = [name for name in properties if name not in set(optional)]
    return {"type": "object", "description": description, "properties": properties, "required": required}


def _any(description: str) -> Schema:
    return {"type": "object", "description": description}


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


NEXT = {"type": ["string", "null"], "description": "Opaque: send it back as `after` for the next page; null: the end."}


def _page(item: str) -> Schema:
    return _object({"items": _list(_ref(item), "One page."), "next": NEXT}, "A page of a list.")


_TRUNCATED = {"type": "boolean", "description": "Whether rows were left out behind `limit`."}
_CELL: Schema = {"description": "A value: null, a boolean, a number, a text, a list or an object."}


def _rows(facts: Schema) -> Schema:
    rows = _list(_list(_CELL, "A row."), "Rows, values in the order of `columns`.")
    return _object({"columns": _list({"type": "string"}, "Names."), "rows": rows, **facts}, "A table, a list a row.")


def _records(facts: Schema) -> Schema:
    return _object({"items": _list(_any("A row."), "Rows."), **facts}, "A table, an object a row.")


def _by_column(facts: Schema) -> Schema:
    columns = _any("A list a column, all equally long.") | {"additionalProperties": _list(_CELL, "A column.")}
    return _object({"columns": columns, **facts}, "A table, a list a column.")


_SERIES_NAMES = {
    "job": _integer("Id of its job."),
    "train_id": _text("train_id of its job."),
    "tag": _text("Name of the tag, as in the file."),
    "plugin": _text("Kind of data, as the writer's own viewer calls it."),
}


def _item(kind: payload.Kind) -> Schema:
    """Return the schema of an item in the list of a kind, with the first of its examples."""
    shown = json.dumps(kind.examples[0].shown) if kind.examples else ""
    return _object(
        {
            **_SERIES_NAMES,
            "step": _integer("Training step, signed 64-bit."),
            "seq": _integer("How often the series went back before."),
            "wall_time": _wall_time("When it was written."),
            "ordinal": _integer("Number within its point: 0, 1, 2 ..."),
            "content_type": _text("Of the bytes, as they themselves say."),
            "bytes": _integer("How many."),
            "sha256": _text("Of the bytes, hexadecimal."),
            "stored": _text("`file`: too long for the database, read from its file.", enum=["database", "file"]),
            "error": _nullable(_text("Why it could not be decoded; the bytes are those in the file then.")),
            "metadata": _object(dict(kind.metadata), "What is known of it, as far as it is.", kind.metadata),
            "url": _text("Path of its bytes."),
            **{name: _text(description) for name, (_, description) in kind.links.items()},
            **{name: dict(schema) for name, schema in kind.fields.items()},
        },
        f"One of {kind.title.lower()}." + (f" For instance: `{shown}`." if shown else ""),
    )


_GRAPH_NODE = {
    "name": _text("Path, parts separated by `/`."),
    "label": _text("Its last part."),
    "scope": _text("The rest; empty: the whole graph."),
    "kind": _text("What it is. A node may have others below its name, too.", enum=list(graphs.WHAT)),
    "type": _nullable(_text("Of a node: its operator.")),
    "children": _integer("Nodes and scopes directly in it."),
    "nodes": _integer("Nodes in it at any depth, itself counted."),
}
_GRAPH_END = {
    "node": _nullable(_text("Name of the other node; null where the graph has none of it.")),
    "type": _nullable(_text("Its operator.")),
    "control": {"type": "boolean", "description": "Says only what comes first; no data."},
}

_INDEXER = _object(
    {
        "alive": {"type": "boolean", "description": "Heard of lately."},
        "heartbeat": _time("When it was heard of last."),
        "lag": {"type": "number", "description": "Seconds since then."},
        "state": _text("What it does: scanning, loading, watching, waiting, stopped."),
        "message": _nullable(_text("What it waits for, or what went wrong.")),
        "holder": _text("`host:pid`."),
        "version": _text("Its version."),
        "started_at": _time("When it started."),
    },
    "The indexer that was heard of last; null where there never was one.",
)

SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        {
            "type": _text("Always `about:blank`."),
            "title": _text("The status in words."),
            "status": _integer("HTTP status."),
            "detail": _text("What is wrong, and what to do."),
            "parameter": _text("The parameter at fault."),
        },
        "An error, as RFC 9457 has it.",
        optional=["parameter"],
    ),
    "Health": _object(
        {
            "status": _text("`ok`, or `degraded`: see `problems`.", enum=["ok", "degraded"]),
            "problems": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What is wrong, and what to do; empty where all is well.",
            },
            "version": _text("Version of this program."),
            "database": _object(
                {
                    "dialect": _text("`sqlite` or `postgresql`."),
                    "revision": _text("Of the schema."),
                    "id": _text("Random, made once with the database."),
                    "change_counter": _integer("Grows with every commit of an indexer."),
                    "size_bytes": _integer("On disk."),
                    "wal_bytes": _nullable(_integer("Of the write-ahead log beside it; null on PostgreSQL.")),
                    "checkpoint_starved": {
                        "type": "boolean",
                        "description": "The log grows because a reader keeps a transaction open: end that reader.",
                    },
                    "free_bytes": _nullable(_integer("Free on its disk; null where that cannot be seen: PostgreSQL.")),
                    "disk_bytes": _nullable(_integer("Size of its disk, as free_bytes.")),
                },
                "The database.",
            ),
            "indexer": _INDEXER | {"type": ["object", "null"]},
            "indexers": {
                "type": "array",
                "items": _INDEXER,
                "description": "All that are registered, the one heard of last first; on SQLite there is one at most.",
            },
            "scanned_at": _time("End of the last whole scan."),
            "bytes_behind": _integer("On disk and not indexed yet."),
            "jobs": _object(
                {status.value: _integer("Number of jobs.") for status in CacheStatus}, "Jobs by cache_status."
            ),
        },
        "How the database and its indexer are. Without the token that is asked for: only `status`.",
        optional=["problems", "version", "database", "indexer", "indexers", "scanned_at", "bytes_behind", "jobs"],
    ),
    "Job": _object(
        {
            "id": _integer("Of the job."),
            "root_id": _integer("Of its root."),
            "root": _text("Name of its root."),
            "train_id": _text("Path below the root, `./a/b`. `␛` and two hex digits: a byte that is no UTF-8."),
            "cache_status": _text("How far it is loaded.", enum=[status.value for status in CacheStatus]),
            "create_time": _time("Newest timestamp in a file's name."),
            "update_time": _time("Newest modification of its files."),
            "start_time": _time("Smallest wall_time of any event."),
            "bytes_on_disk": _integer("Size of its files."),
            "bytes_indexed": _integer("Bytes of them that are read."),
            "point_count": _integer("Stored points."),
            "missing_since": _time("Since when its files are gone."),
            "last_error": _nullable(_text("Why its last pass failed.")),
            "access_time": _time("When somebody looked at it last."),
            "evicted_at": _time("Since when it is left out of the cache; a look at it has it loaded."),
            "pruned_at": _time("When tags or points of it were pruned last."),
            "revision": _integer("change_counter of its last commit."),
            "bad_records": _integer("Damaged records in its files."),
            "bad_bytes": _integer("Bytes of them."),
        },
        "A train job.",
    ),
    "File": _object(
        {
            "id": _integer("Of the file."),
            "name": _text("Escaped as train_id is."),
            "generation": _integer("Tells files apart that had the same name one after the other."),
            "kind": _text("What its name promises.", enum=[kind.value for kind in ShardKind]),
            "format": _text("Which writer's.", enum=[format_.value for format_ in Format]),
            "state": _text("What is known of it.", enum=[state.value for state in ShardState]),
            "cursor": _integer("Bytes consumed."),
            "size": _integer("Bytes, when last seen."),
            "mtime_ns": _integer("Modification time, nanoseconds since the epoch."),
            "file_id": _nullable(_text("`device:inode`.")),
            "record_count": _integer("Good records."),
            "bad_records": _integer("Damaged records."),
            "bad_bytes": _integer("Bytes of them."),
            "error_count": _integer("Stored errors."),
            "errors": _list(
                _object(
                    {
                        "offset": _integer("Where it begins, bytes."),
                        "length": _integer("Bytes passed over."),
                        "reason": _text("What is wrong."),
                    },
                    "One damage.",
                ),
                "The first of them.",
            ),
        },
        "An event file.",
    ),
    "Tag": _object(
        {
            "id": _integer("Of the tag."),
            "name": _text("As in the file."),
            "plugin": _SERIES_NAMES["plugin"],
            "data_class": _text("How it is read.", enum=[data_class.value for data_class in DataClass]),
            "point_count": _integer("Stored points."),
            "first_step": _nullable(_integer("Of the point loaded first.")),
            "last_step": _nullable(_integer("Of the point loaded last.")),
            "min_step": _nullable(_integer("Smallest.")),
            "max_step": _nullable(_integer("Largest.")),
            "first_wall_time": _wall_time("Of the point loaded first."),
            "last_wall_time": _wall_time("Of the point loaded last."),
            "max_wall_time": _wall_time("Largest."),
            "last_value": _number("Of the point loaded last."),
            "min_value": _number("Smallest finite."),
            "max_value": _number("Largest finite."),
            "nan_count": _integer("Values that are NaN."),
            "pos_inf_count": _integer("Values that are Infinity."),
            "neg_inf_count": _integer("Values that are -Infinity."),
            "max_length": _integer("Longest blob sequence."),
            "metadata": _object(
                {
                    "data_class": _text("As above."),
                    "display_name": _nullable(_text("As in the file.")),
                    "description": _nullable(_text("As in the file; Markdown.")),
                    "plugin_content": _nullable(_text("Bytes of the plugin, base64.")),
                    "plugin_data": {
                        "type": ["object", "null"],
                        "description": "What they say, by the names of the plugin's own message; fields that are left"
                        " out are zero or empty. Null where the plugin is none that is known, or they are damaged.",
                    },
                },
                "What the writer says of the tag.",
            ),
        },
        "A series with its statistics.",
    ),
    "Series": _object(
        {
            **_SERIES_NAMES,
            "total": _integer("Points of the range before thinning."),
            "downsampled": {"type": "boolean", "description": "Whether points were left out."},
            "step": _list({"type": "integer"}, "Steps."),
            "wall_time": _list(_number("One."), "Seconds since the epoch, UTC; null where the file's is NaN."),
            "value": _list(_number("One."), "Values; null where the point is no number."),
            "x": _list(_number("One."), "Only with `x=`: what to draw over."),
        },
        "A curve: its columns are equally long.",
        optional=["x"],
    ),
    "SeriesPage": _object({"series": _list(_ref("Series"), "One page."), "next": NEXT}, "A page of curves."),
    "Point": _object(
        {
            **_SERIES_NAMES,
            "step": _integer("Training step, signed 64-bit."),
            "seq": _integer("How often the series went back before."),
            "wall_time": _wall_time("When it was written."),
            "value": _number("Null where the point is no number."),
            "payloads": _list(
                _object(
                    {
                        "kind": _text("Of the payload, as `blobs.kind`."),
                        "ordinal": _integer("Number within its point: 0, 1, 2 ..."),
                        "content_type": _text("Of the bytes, as they themselves say."),
                        "length": _integer("Bytes."),
                        "sha256": _text("Of the bytes, hexadecimal."),
                        "error": _nullable(_text("Why it could not be decoded.")),
                        "url": _text("Path of its bytes."),
                        "base64": _nullable(_text("The bytes, where they are asked for.")),
                    },
                    "A payload.",
                    optional=["base64"],
                ),
                f"What there is beside the number; of one point the first {PAYLOADS}, the lists of kinds have all.",
            ),
        },
        "A stored point.",
        optional=["payloads"],
    ),
    **{f"{kind.name}Item": _item(kind) for kind in KINDS},
    **{f"{kind.name}Items": _page(f"{kind.name}Item") for kind in KINDS},
    **explain.SCHEMAS,
    "Lineage": _object(
        {
            "job": _integer("Id of the job."),
            "root": _text("Name of its root."),
            "train_id": _SERIES_NAMES["train_id"],
            "wall_time": _wall_time("When the newest of its records was written."),
            **{section: _any(f"What its records say of {section}, by MindSpore's names.") for section in runs.SECTIONS},
            "dataset_graph": _any(
                "The pipeline of its data: parameters, operations, sampler, children; null where there is none."
            )
            | {"type": ["object", "null"]},
            "values": _any("All but the dataset graph in one object, by the names that `where` and `sort` take."),
        },
        "Where a trained model comes from.",
    ),
    "LineagePage": _page("Lineage"),
    "HParams": _object(
        {
            "job": _integer("Id of the job."),
            "root": _text("Name of its root."),
            "train_id": _SERIES_NAMES["train_id"],
            "group_name": _nullable(_text("Of its session: runs of one group have the same hyperparameters.")),
            "status": _nullable(_text("Of its session: unknown, success, failure or running; null: it has none.")),
            "start_time": _time("When its session began."),
            "end_time": _time("When its session ended."),
            "model_uri": _nullable(_text("As its session says.")),
            "monitor_url": _nullable(_text("As its session says.")),
            "hparams": _any("Hyperparameters by name."),
            "metrics": _any("Last values of the metrics that its experiment names, `tag` or `group/tag`."),
            "experiment": _nullable(_integer("Id of the job with its experiment, in `/hparam-records`.")),
        },
        "A run and its hyperparameters.",
    ),
    "HParamsPage": _page("HParams"),
    "Compared": _object(
        {
            "job": _integer("Id of its job."),
            "root": _text("Name of its root."),
            **{name: _SERIES_NAMES[name] for name in ("train_id", "tag", "plugin")},
            "points": _integer("Current points."),
            **{
                f"{which}_{name}": schema
                for which, what in {
                    "last": "Of the point with the largest step",
                    "min": "Of the point with the smallest finite value",
                    "max": "Of the point with the largest finite value",
                    "best": "Of one of these, as `best` says",
                }.items()
                for name, schema in {
                    "value": _number(f"{what}: its value."),
                    "step": _nullable(_integer(f"{what}: its step.")),
                    "wall_time": _wall_time(f"{what}: when it was written."),
                }.items()
            },
        },
        "A series of numbers, compared with those of the same name in other jobs.",
    ),
    "ComparePage": _page("Compared"),
    "SqlAnswer": _rows({"truncated": _TRUNCATED}),
    "SqlRecords": _records({"truncated": _TRUNCATED}),
    "SqlColumns": _by_column({"truncated": _TRUNCATED}),
    "Records": _records({"next": NEXT}),
    "Columns": _by_column({"next": NEXT}),
    "Rows": _rows({"next": NEXT}),
    "GraphNode": _object(_GRAPH_NODE, "A node of a graph, or a scope."),
    "GraphNodePage": _page("GraphNode"),
    "GraphNodeDetail": _object(
        {
            **_GRAPH_NODE,
            "inputs": _list(
                _object({"written": _nullable(_text("As the graph names it.")), **_GRAPH_END}, "One."), "In order."
            ),
            "input_count": _integer("How many there are."),
            "outputs": _list(_object(_GRAPH_END, "One."), "Nodes that have it as an input."),
            "output_count": _integer("How many there are."),
            "data_type": _nullable(_text("Of its output, as far as the graph says.")),
            "shape": _nullable(_list(_CELL, "Shapes of its outputs; -1, -2: unknown.")),
            "device": _nullable(_text("Where it is placed.")),
            "attributes": _list(
                _object(
                    {
                        "name": _text("Of the attribute."),
                        "type": _nullable(_text("Of its value.")),
                        "value": {"description": "Null where it is long; of a tensor its type and shape."},
                        "bytes": _integer("Length of a value that is left out."),
                    },
                    "One.",
                    ["bytes"],
                ),
                f"The first {nodes.MAX_ATTRIBUTES}.",
            ),
            "attribute_count": _integer("How many there are."),
            "more": {"type": "object", "description": "What only some graphs say: id, full_name, instance_name ..."},
        },
        "What a graph says of a node.",
    ),
    "GraphNodeList": _object({"items": _list(_ref("GraphNodeDetail"), "Those of the name.")}, "Nodes of one name."),
    "ChangesPage": _object(
        {
            "since": _integer("Send it the next time."),
            "reset": {"type": "boolean", "description": "Forget what you know: the items are all jobs there are."},
            "removed": _list(
                _object(
                    {
                        "job": _integer("Id it had. Another job may have it now, and be among the items."),
                        "root_id": _integer("Of its root."),
                        "train_id": _text("Its train_id."),
                        "revision": _integer("change_counter when it went."),
                    },
                    "A job that is gone.",
                ),
                "On the first page.",
            ),
            "items": _list(
                {
                    "allOf": [
                        _ref("Job"),
                        {
                            "type": "object",
                            "properties": {"tag_count": _integer("Tags it has.")},
                            "required": ["tag_count"],
                        },
                    ]
                },
                "Jobs added or changed, by revision.",
            ),
            "next": NEXT,
        },
        "Changes since a number of the change counter.",
    ),
    "OpenAPI": _object(
        {
            "openapi": _text("Version of the specification, which says what else there is."),
            "info": _any("What this is."),
            "paths": _any("Operations by path and method."),
            "components": _any("What operations refer to."),
        },
        "An OpenAPI document.",
    ),
    "JobPage": _page("Job"),
    "FilePage": _page("File"),
    "TagPage": _page("Tag"),
    "PointPage": _page("Point"),
}


# The document ---------------------------------------------------------------------------------------------------------
def document(version: str) -> Schema:
    """Return the whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "summarydb",
            "version": version,
            "summary": "Train jobs, tags and points of MindSpore and TensorBoard summary files. Read-only.",
            "description": "Times are seconds since the epoch, UTC. JSON is strict: floats that are not finite are the"
            ' strings "NaN", "Infinity" and "-Infinity". Unknown fields are to be ignored.',
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": root() + BASE}],
        "security": answers.SECURITY,
        "tags": [{"name": name, "description": words} for name, words, _ in GROUPS],
        "paths": {
            path: {method: {"tags": [group], **operation} for method, operation in operations.items()}
            for group, _, routes in GROUPS
            for route in routes
            for path, operations in _paths(route)
        },
        "components": {
            "schemas": SCHEMAS,
            "responses": answers.responses(_ref("Problem")),
            "securitySchemes": answers.SECURITY_SCHEMES,
        },
    }


def _paths(route: Route) -> Iterator[tuple[str, Schema]]:
    """Yield the paths of a route: the second names the format."""
    operations: Schema = {"get": _operation(route), "head": _head(route)}
    if route is sql.ROUTE:
        operations["post"] = _posted(route)
    yield route.path, operations
    if route in _FORMATTED:
        form = _in_path("form", "Format of the answer.", {"type": "string", "enum": list(formats.CONTENT_TYPES)})
        suffixed: Schema = {}
        for method, operation in operations.items():
            suffixed[method] = operation | {
                "operationId": f"{operation['operationId']}-form",
                "parameters": [form, *operation["parameters"]],
                "responses": operation["responses"] | {"404": _problem(404, method)},
            }
        yield f"{route.path}.{{form}}", suffixed


def _posted(route: Route) -> Schema:
    """The query in the body."""
    operation = _operation(route)
    fields = {one.name: _parameter(one)["schema"] | {"description": one.description} for one in route.parameters}
    body = {
        "text/plain": {"schema": {"type": "string"}},
        "application/json": {"schema": {"type": "object", "properties": fields, "required": ["q"]}},
    }
    unsupported = {"415": _problem(415, "post")}
    return operation | {
        "operationId": f"{route.name}-post",
        "parameters": [one for one in operation["parameters"] if one["name"] != "q"],
        "requestBody": {"required": True, "content": body},
        "responses": operation["responses"] | unsupported,
    }


def _content(route: Route) -> Schema:
    """Return the content types of an answer."""
    if route in _OTHERWISE:
        return _OTHERWISE[route]
    if not route.answer:
        return answers.BYTES
    if route not in _FORMATTED:
        return {respond.JSON: {"schema": _ref(route.answer)}}
    shapes = ("SqlRecords", "SqlColumns") if route is sql.ROUTE else ("Records", "Columns", "Rows")
    content: Schema = {respond.JSON: {"schema": {"anyOf": [_ref(name) for name in (route.answer, *shapes)]}}}
    others = [name.partition(";")[0] for form, name in formats.CONTENT_TYPES.items() if form != "json"]
    return content | {name: {"schema": {"type": "string", "format": "binary"}} for name in others}


_FORMATTED = (*tables.ROUTES, sql.ROUTE)
_OTHERWISE: dict[Route, Schema] = {
    live.EVENTS: {"text/event-stream": {"schema": {"type": "string"}}},
    DOCS: {"text/html": {"schema": {"type": "string"}}},
}


def _headers(route: Route) -> Schema:
    """Return the headers of an answer that succeeds."""
    names = ["ETag"] if route.conditional else []
    if route is sql.ROUTE:
        names.append(sql.TRUNCATED)
    elif route in _FORMATTED:
        names.append("Link")
    if not route.answer and route not in _OTHERWISE:
        names.append("Content-Disposition")
    return answers.headers(names)


def _operation(route: Route) -> Schema:
    errors = sorted({*answers.ALWAYS, *route.errors, *([304] if route.conditional else [])})
    sent = [answers.IF_NONE_MATCH] if route.conditional else []
    if route is live.EVENTS:
        sent = [answers.LAST_EVENT_ID]
    return {
        "operationId": route.name,
        "summary": route.summary,
        "description": route.description,
        "parameters": [
            *(_PATH[name] for name in re.findall(r"{(\w+)}", route.path)),
            *(_parameter(parameter) for parameter in route.parameters),
            *sent,
        ],
        "responses": {
            "200": {"description": "The answer.", "headers": _headers(route), "content": _content(route)},
            **{str(status): _problem(status, "get") for status in errors},
        },
    }


def _problem(status: int, method: str) -> Schema:
    """Return the answer of a status other than 200."""
    return answers.bare(str(status)) if method == "head" else {"$ref": f"#/components/responses/{status}"}


def _head(route: Route) -> Schema:
    """The same without a body."""
    operation = _operation(route)
    found: Schema = {"200": {"description": "As GET, without a body.", "headers": _headers(route)}}
    found |= {status: _problem(int(status), "head") for status in operation["responses"] if status != "200"}
    return operation | {"operationId": f"{route.name}-head", "responses": found}


def _in_path(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


SMALL: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
LARGE: Schema = {"type": "integer", "format": "int64", "minimum": -INT64, "maximum": INT64 - 1}
_PATH: dict[str, Schema] = {
    "id": _in_path(
        "id",
        "A job's id, its train_id url-quoted (`.%2Fa%2Fb`), or `root:./a/b` where several roots have it.",
        {"type": "string", "minLength": 1},
    ),
    "tag": _in_path("tag", "Id of the tag.", SMALL),
    "step": _in_path("step", "Step of the point.", LARGE),
    "seq": _in_path("seq", "Seq of the point.", SMALL),
    **{name: _in_path(name, *words) for name, words in explain.PATH.items()},
    "ordinal": _in_path("ordinal", "Number of the payload within its point.", SMALL),
}


def _parameter(parameter: Parameter) -> Schema:
    schema: Schema
    match parameter.kind:
        case Kind.INTEGER:
            schema = {"type": "integer", "format": "int64", "minimum": parameter.minimum, "maximum": parameter.maximum}
        case Kind.CHOICE:
            schema = {"type": "string", "enum": list(parameter.choices)}
        case Kind.TEXT:
            schema = {"type": "string", "maxLength": parameter.max_length}
            if parameter.min_length:
                schema["minLength"] = parameter.min_length
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.repeatable:
        schema = {"type": "array", "items": schema, "maxItems": MAX_REPEATS}
    example = parameter.example
    return {
        "name": parameter.name,
        "in": "query",
        "required": parameter.example is not None,
        "description": parameter.description,
        "schema": schema,
        **({"style": "form", "explode": True} if parameter.repeatable else {}),
        **({} if example is None else {"example": int(example) if parameter.kind == Kind.INTEGER else example}),
    }
