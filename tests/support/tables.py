"""All tables by names in place of ids, so that two databases can be compared however their rows came in."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine, text

Tables = dict[str, dict[tuple[Any, ...], tuple[Any, ...]]]
"""By table: key columns → the other columns, ids resolved to names."""

_JOB = "r.name, j.train_id"
_TAG = f"{_JOB}, t.plugin, t.name"
_SHARD = f"{_JOB}, s.name, s.generation"
_OF_JOB = "FROM jobs j JOIN roots r ON r.id = j.root_id"
_OF_TAG = f"{_OF_JOB} JOIN tags t ON t.job_id = j.id"
_OF_SHARD = f"{_OF_JOB} JOIN shards s ON s.job_id = j.id"

_BUCKET = ", ".join(
    ["b.count", *(f"b.{end}_{what}" for end in ("first", "last", "min", "max") for what in ("step", "seq"))]
    + [f"b.{end}_{what}" for end in ("first", "last", "min", "max") for what in ("wall_time", "value")]
)

_TAG_COLUMNS = (
    "series_key, name_key, data_class, metadata, content, display_name, description, point_count, first_step, "
    "last_step, min_step, max_step, first_wall_time, last_wall_time, max_wall_time, last_value, min_value, max_value, "
    "nan_count, pos_inf_count, neg_inf_count, max_length, seq, segments, rolled_count, rolled_step"
)
_SHARD_COLUMNS = (
    "kind, format, cursor, size, fingerprint, tail, state, record_count, bad_records, bad_bytes, lost_since"
)
_BLOB_COLUMNS = (
    "kind, encoding, content_type, width, height, colorspace, dtype, shape, length, digest, facts, error, data"
)
_HISTOGRAM_COLUMNS = "buckets, count, min, max, sum, sum_squares, mean, stddev, nan_count, pos_inf_count, neg_inf_count"
_TENSOR_COLUMNS = "count, min, max, mean, stddev, nan_count, pos_inf_count, neg_inf_count"
_EXPLAIN_COLUMNS = (
    "latest, status, label_count, sample_count, record_count, error_count, uncertainty, wall_time, manifest"
)
_EXPLAINED = {  # table: key columns behind the file, all columns
    "records": (1, "{}, length, wall_time, step, sample_id, error, data"),
    "labels": (1, "label, name"),
    "methods": (2, "kind, ordinal, name"),
    "samples": (1, "sample_id, image_path, step, wall_time, has_truth, has_inference"),
    "inferences": (3, "sample_id, role, ordinal, label, probability, sd, low, high"),
    "saliency": (3, "sample_id, label, explainer_key, explainer, path, record_offset, position"),
    "hoc": (3, "sample_id, label, layer, mask, probability, boxes"),
    "benchmarks": (3, "explainer_key, metric_key, label, explainer, metric, score, record_offset, position"),
}
_LINEAGE_COLUMNS = "section, key, name, kind, value, number, json, wall_time"
_RUN_COLUMNS = "hparams, group_name, status, start_time, end_time, model_uri, monitor_url, experiment"
_GRAPH_COLUMNS = "nodes, edges, parameters, constants, outputs, functions, scopes"
_JOB_COLUMNS = "cache_status, create_time, start_time, bytes_on_disk, bytes_indexed, point_count, last_error"


def _of(table: str, columns: str) -> str:
    return ", ".join(f"{table}.{column}" for column in columns.split(", "))


_QUERIES = {  # table: number of key columns, columns, the rest of the query
    "jobs": (2, f"{_JOB}, j.missing_since IS NOT NULL, {_of('j', _JOB_COLUMNS)}", _OF_JOB),
    "shards": (4, f"{_SHARD}, {_of('s', _SHARD_COLUMNS)}", _OF_SHARD),
    "shard_errors": (
        5,
        f"{_SHARD}, e.{{}}, e.length, e.reason",  # the name `offset` needs quotes that differ
        f"{_OF_SHARD} JOIN shard_errors e ON e.shard_id = s.id",
    ),
    "tags": (4, f"{_TAG}, {_of('t', _TAG_COLUMNS)}", _OF_TAG),
    "tensor_points": (
        6,
        f"{_TAG}, p.step, p.seq, p.wall_time, p.value",
        f"{_OF_TAG} JOIN tensor_points p ON p.tag_id = t.id",
    ),
    "restarts": (
        5,
        f"{_TAG}, x.seq, x.step, x.cause, s.name",
        f"{_OF_TAG} JOIN restarts x ON x.tag_id = t.id JOIN shards s ON s.id = x.shard_id",
    ),
    "tag_segments": (
        5,
        f"{_TAG}, g.ordinal, s.name, g.first_step, g.last_step, g.first_seq, g.last_seq, g.count",
        f"{_OF_TAG} JOIN tag_segments g ON g.tag_id = t.id JOIN shards s ON s.id = g.shard_id",
    ),
    "blobs": (
        7,
        f"{_TAG}, b.step, b.seq, b.ordinal, {_of('b', _BLOB_COLUMNS)}, b.{{}}, s.name",
        f"{_OF_TAG} JOIN blobs b ON b.tag_id = t.id LEFT JOIN shards s ON s.id = b.shard_id",
    ),
    "blob_counts": (
        5,
        f"{_TAG}, c.kind, c.count, c.errors, c.bytes",
        f"{_OF_TAG} JOIN blob_counts c ON c.tag_id = t.id",
    ),
    "histogram_stats": (
        6,
        f"{_TAG}, h.step, h.seq, {_of('h', _HISTOGRAM_COLUMNS)}",
        f"{_OF_TAG} JOIN histogram_stats h ON h.tag_id = t.id",
    ),
    "tensor_stats": (
        6,
        f"{_TAG}, e.step, e.seq, {_of('e', _TENSOR_COLUMNS)}",
        f"{_OF_TAG} JOIN tensor_stats e ON e.tag_id = t.id",
    ),
    "explain_files": (
        4,
        f"{_SHARD}, {_of('f', _EXPLAIN_COLUMNS)}",
        f"{_OF_SHARD} JOIN explain_files f ON f.shard_id = s.id",
    ),
    **{
        f"explain_{name}": (
            4 + keys,
            f"{_SHARD}, {', '.join(f'x.{column}' for column in columns.split(', '))}",
            f"{_OF_SHARD} JOIN explain_{name} x ON x.shard_id = s.id",
        )
        for name, (keys, columns) in _EXPLAINED.items()
    },
    "lineage": (
        3,
        f"{_JOB}, l.ordinal, {_of('l', _LINEAGE_COLUMNS)}, l.{{}}, s.name",
        f"{_OF_JOB} JOIN lineage l ON l.job_id = j.id JOIN shards s ON s.id = l.shard_id",
    ),
    "lineage_files": (4, f"{_SHARD}, f.state", f"{_OF_SHARD} JOIN lineage_files f ON f.shard_id = s.id"),
    "hparams": (
        4,
        f"{_JOB}, h.source, h.ordinal, {_of('h', 'name, kind, value, number, json')}",
        f"{_OF_JOB} JOIN hparams h ON h.job_id = j.id",
    ),
    "hparam_runs": (2, f"{_JOB}, {_of('h', _RUN_COLUMNS)}", f"{_OF_JOB} JOIN hparam_runs h ON h.job_id = j.id"),
    "graph_stats": (
        6,
        f"{_TAG}, g.step, g.seq, {_of('g', _GRAPH_COLUMNS)}",
        f"{_OF_TAG} JOIN graph_stats g ON g.tag_id = t.id",
    ),
    "graph_chunks": (
        7,
        f"{_TAG}, g.step, g.seq, g.start, g.first, g.entries, g.data",
        f"{_OF_TAG} JOIN graph_chunks g ON g.tag_id = t.id",
    ),
    "point_rollups": (
        6,
        f"{_TAG}, b.level, b.ordinal, {_BUCKET}",
        f"{_OF_TAG} JOIN point_rollups b ON b.tag_id = t.id",
    ),
}

_ON_DISK = {  # what two copies of the same files do not share
    "roots": (1, "r.name, r.path, r.named", "FROM roots r"),
    "disk_jobs": (2, f"{_JOB}, j.update_time", _OF_JOB),
    "disk_shards": (4, f"{_SHARD}, s.mtime_ns, s.file_id", _OF_SHARD),
}


def dump(engine: Engine, *, disk: bool = True) -> Tables:
    """Return all rows of all tables that files decide.

    disk: also modification times, inodes and paths, by which two copies of the same files differ.
    """
    quote = engine.dialect.identifier_preparer.quote
    out: Tables = {}
    with engine.connect() as conn:
        for table, (keys, columns, rest) in {**_QUERIES, **(_ON_DISK if disk else {})}.items():
            rows = conn.execute(text(f"SELECT {columns.format(quote('offset'))} {rest}")).all()
            out[table] = {tuple(row[:keys]): tuple(_plain(value) for value in row[keys:]) for row in rows}
            assert len(out[table]) == len(rows), f"two rows of {table} have one key"
        for table in ("tensor_points", "blobs", "histogram_stats", "tensor_stats", "graph_stats", "graph_chunks"):
            known = "SELECT id FROM tags UNION ALL SELECT tag_id FROM loose_tags"
            lost = conn.execute(text(f"SELECT count(*) FROM {table} WHERE tag_id NOT IN ({known})"))
            assert lost.scalar_one() == 0, f"rows of {table} without a tag"
    return out


def differences(expected: Tables, actual: Tables) -> list[str]:
    """Return a line for each row that differs, for a test that is to be read by people."""
    lines = []
    for table in expected:
        for key in sorted(expected[table].keys() | actual[table].keys(), key=repr):
            one, other = expected[table].get(key), actual[table].get(key)
            if one != other:
                lines.append(f"{table} {key}: expected {one}, found {other}")
    return lines


def _plain(value: Any) -> Any:
    """Return what both drivers agree on."""
    if isinstance(value, memoryview):
        return bytes(value)
    return int(value) if isinstance(value, bool) else value
