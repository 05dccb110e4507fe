"""All tables, checks and indexes; nothing else. Views live in the migrations that create them.

Points and rollups carry no foreign keys: a look-up a row would halve the speed of a load, and they are only ever
written together with their tag. Names are compared by key (see `indexer.text.key`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""Names of constraints are the same on every database, so migrations can speak of them."""

ROOT = Table(
    "roots",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("path", Text, nullable=False),
    Column("named", Boolean, nullable=False, server_default=false()),
)
"""A base directory. A named one is known by its name, another by its path."""

JOB = Table(
    "jobs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("root_id", Integer, ForeignKey("roots.id", ondelete="CASCADE"), nullable=False),
    Column("train_id", Text, nullable=False),  # './a/b', escaped by indexer.text.store
    Column("train_key", LargeBinary, nullable=False),  # text.key(train_id)
    Column("cache_status", Text, nullable=False, server_default="NOT_IN_CACHE"),
    Column("create_time", Double),  # newest timestamp in a file's name
    Column("update_time", Double),  # largest mtime of its files
    Column("start_time", Double),  # smallest finite wall_time of any event
    Column("bytes_on_disk", BigInteger, nullable=False, server_default=text("0")),
    Column("bytes_indexed", BigInteger, nullable=False, server_default=text("0")),
    Column("point_count", BigInteger, nullable=False, server_default=text("0")),
    Column("missing_since", Double),
    Column("last_error", Text),
    Column("access_time", Double),
    Column("evicted_at", Double),  # left out of the cache since: it is loaded when somebody asks for it
    Column("pruned_at", Double),  # tags or points of it were pruned then, and are in its files still
    Column("revision", BigInteger, nullable=False, server_default=text("0")),  # change_counter of its last commit
    Column("lease_owner", Integer),  # indexers.id; PostgreSQL only
    Column("lease_generation", Integer, nullable=False, server_default=text("0")),
    Column("lease_expires", Double),
    Column("listed_create_time", Double),  # creation time of the file created last, by MindInsight's rules, and
    Column("listed_update_time", Double),  # when that file was modified; NULL: no train job for MindInsight
    Column("explain_create_time", Double),  # the same of explain files
    Column("explain_update_time", Double),
    Column("profiler_dir", Text),  # './profiler', relative to the job
    Column("profiler_type", Text),  # ascend, gpu, cpu
    Column("graph_mode", Text),  # of a profiler of a known type: static, dynamic
    Column("dump_dir", Text),  # './job/dump', relative to the root
    UniqueConstraint("root_id", "train_key"),
    CheckConstraint("cache_status IN ('NOT_IN_CACHE', 'CACHING', 'CACHED')", name="cache_status"),
    Index(None, "update_time"),
    Index(None, "revision"),
)
"""A train job: a directory below a root that holds summary files."""

ANNOTATION = Table(
    "annotations",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("tag", Integer),  # 0 to 10, as MindInsight's page has them
    Column("remark", Text),
    Column("alias", Text),
    Column("changed_at", Double, nullable=False),
)
"""What people said of a job: `summarydb annotate` writes it, nothing that is indexed changes it."""

SHARD = Table(
    "shards",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),  # escaped by indexer.text.store
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("kind", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("cursor", BigInteger, nullable=False, server_default=text("0")),  # bytes consumed
    Column("size", BigInteger, nullable=False, server_default=text("0")),  # bytes, when last seen
    Column("mtime_ns", BigInteger, nullable=False, server_default=text("0")),
    Column("file_id", Text),  # "device:inode"
    Column("fingerprint", LargeBinary),  # digest of the first min(cursor, 4 KiB)
    Column("tail", LargeBinary),  # digest of the last min(cursor, 4 KiB) before the cursor
    Column("state", Text, nullable=False, server_default="growing"),
    Column("record_count", BigInteger, nullable=False, server_default=text("0")),  # good ones
    Column("bad_records", BigInteger, nullable=False, server_default=text("0")),
    Column("bad_bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("lost_since", BigInteger),  # offset where damage began that nothing good ended yet
    UniqueConstraint("job_id", "name", "generation"),
    CheckConstraint("kind IN ('summary', 'lineage', 'explain', 'graph')", name="kind"),
    CheckConstraint("format IN ('mindspore', 'tensorboard')", name="format"),
    CheckConstraint("state IN ('growing', 'torn', 'done', 'dead', 'replaced', 'missing')", name="state"),
)
"""One event file. `generation` tells files apart that had the same name one after the other."""

SHARD_ERROR = Table(
    "shard_errors",
    METADATA,
    Column("shard_id", Integer, ForeignKey("shards.id", ondelete="CASCADE"), primary_key=True),
    Column("offset", BigInteger, primary_key=True),  # bytes
    Column("length", BigInteger, nullable=False),  # bytes
    Column("reason", Text, nullable=False),
)
"""One damage seen. At most 1,000 a shard are kept as rows; `shards.bad_records` counts all."""

TAG = Table(
    "tags",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("plugin", Text, nullable=False),
    Column("name", Text, nullable=False),  # as in the file, escaped by indexer.text.store
    Column("series_key", LargeBinary, nullable=False),  # text.key(plugin, name)
    Column("name_key", BigInteger, nullable=False),  # text.short_key(name)
    Column("data_class", Text, nullable=False, server_default="unknown"),
    Column("metadata", LargeBinary),  # SummaryMetadata as written
    Column("content", LargeBinary),  # its plugin_data.content
    Column("display_name", Text),
    Column("description", Text),
    Column("point_count", BigInteger, nullable=False, server_default=text("0")),
    Column("first_step", BigInteger),  # first and last: in load order
    Column("last_step", BigInteger),
    Column("min_step", BigInteger),
    Column("max_step", BigInteger),
    Column("first_wall_time", Double),
    Column("last_wall_time", Double),
    Column("max_wall_time", Double),
    Column("last_value", Double),
    Column("min_value", Double),
    Column("max_value", Double),
    Column("nan_count", BigInteger, nullable=False, server_default=text("0")),
    Column("pos_inf_count", BigInteger, nullable=False, server_default=text("0")),
    Column("neg_inf_count", BigInteger, nullable=False, server_default=text("0")),
    Column("max_length", Integer, nullable=False, server_default=text("0")),  # of a blob sequence
    Column("seq", Integer, nullable=False, server_default=text("0")),  # of the last one loaded; starts count
    Column("segments", Integer, nullable=False, server_default=text("0")),  # how many tag_segments it has
    Column("rolled_count", BigInteger, nullable=False, server_default=text("0")),  # current points in closed buckets
    Column("rolled_step", BigInteger),  # step of the last of them; raw points above it
    UniqueConstraint("job_id", "series_key"),
    CheckConstraint("data_class IN ('unknown', 'scalar', 'tensor', 'blob_sequence')", name="data_class"),
    Index(None, "name_key"),
)
"""One series of a job. Statistics are over all stored points, superseded too; min and max over finite values."""

TENSOR_POINT = Table(
    "tensor_points",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("wall_time", Double),  # as in the file; NULL is NaN
    Column("value", Double),  # NULL is NaN, or no number
    sqlite_with_rowid=False,  # half the bytes, and a range scan a series
)
"""One point. A row a point is the source of truth: `SELECT step, value ... WHERE tag_id = ?` works anywhere."""

POINT_ROLLUP = Table(
    "point_rollups",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("first_seq", Integer, nullable=False),
    Column("first_wall_time", Double),
    Column("first_value", Double),
    Column("last_step", BigInteger, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column("last_wall_time", Double),
    Column("last_value", Double),
    Column("min_step", BigInteger),
    Column("min_seq", Integer),
    Column("min_wall_time", Double),
    Column("min_value", Double),
    Column("max_step", BigInteger),
    Column("max_seq", Integer),
    Column("max_wall_time", Double),
    Column("max_value", Double),
    sqlite_with_rowid=False,
)
"""A closed bucket of 64 * 8**level current points of a tag, in step order: a chart of any length costs the same.

Only finite values count for min and max (both NULL where there is none). The open end of a series has no bucket.
"""

BLOB = Table(
    "blobs",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),  # of indexer.plugins
    Column("encoding", Text, nullable=False),  # of `data`: raw, zlib; ref: in the file, at `offset` of `shard_id`
    Column("content_type", Text, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("colorspace", Integer),
    Column("dtype", Text),
    Column("shape", Text),  # JSON, "[2, 3]"
    Column("length", BigInteger, nullable=False),  # bytes, decoded
    Column("digest", LargeBinary, nullable=False),  # SHA-256 of the decoded bytes
    Column("facts", Text),  # JSON object of its kind
    Column("error", Text),  # why it could not be decoded
    Column("shard_id", Integer),  # of a ref
    Column("offset", BigInteger),  # bytes, in its file
    Column("data", LargeBinary),
    CheckConstraint("encoding IN ('raw', 'zlib', 'zstd', 'ref')", name="encoding"),
)
"""One payload of a point that is no number. Several of one point have ordinals 0, 1, 2 ...

`data` comes last, so that reading the other columns does not touch it, and the table has rowids: rows are long.
"""

BLOB_COUNT = Table(
    "blob_counts",
    METADATA,
    Column("tag_id", Integer, ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),  # of them could not be decoded
    Column("bytes", BigInteger, nullable=False),  # decoded
)
"""What blobs of a kind a tag has: lists and `status` need not count them."""

HISTOGRAM_STATS = Table(
    "histogram_stats",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("buckets", Integer, nullable=False),
    Column("count", Double),  # finite values
    Column("min", Double),
    Column("max", Double),
    Column("sum", Double),  # NULL where the writer gives none
    Column("sum_squares", Double),  # likewise
    Column("mean", Double),
    Column("stddev", Double),  # from the buckets where sum_squares is NULL
    Column("nan_count", BigInteger),
    Column("pos_inf_count", BigInteger),
    Column("neg_inf_count", BigInteger),
    sqlite_with_rowid=False,
)
"""What a histogram says in numbers. What the writer does not give is estimated from the buckets."""

TENSOR_STATS = Table(
    "tensor_stats",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),  # elements
    Column("min", Double),
    Column("max", Double),
    Column("mean", Double),
    Column("stddev", Double),
    Column("nan_count", BigInteger, nullable=False),
    Column("pos_inf_count", BigInteger, nullable=False),
    Column("neg_inf_count", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""What a tensor of numbers says in numbers: over finite elements, as 64-bit floats."""

GRAPH_STATS = Table(
    "graph_stats",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("nodes", Integer, nullable=False),
    Column("edges", Integer, nullable=False),
    Column("parameters", Integer, nullable=False),
    Column("constants", Integer, nullable=False),
    Column("outputs", Integer, nullable=False),
    Column("functions", Integer, nullable=False),
    Column("scopes", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""How much there is in a graph."""

GRAPH_CHUNK = Table(
    "graph_chunks",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("start", Integer, primary_key=True, autoincrement=False),  # number of its first entry
    Column("first", LargeBinary, nullable=False),  # sort key of that entry, cut to 200 bytes
    Column("entries", Integer, nullable=False),  # how many
    Column("data", LargeBinary, nullable=False),  # deflated
    Index(None, "tag_id", "step", "seq", "first"),
)
"""Nodes and scopes of a graph in the order of their names, so many a row; indexer.graphs reads them.

The table has rowids: rows are long.
"""

LINEAGE = Table(
    "lineage",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("section", Text, nullable=False),  # hyper_parameters, train_dataset, algorithm, model, metric, ...
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),  # as MindInsight's table calls section and key; empty: all of the section
    Column("kind", Text, nullable=False),  # number, string, bool, null, list, object
    Column("value", Text),  # as text
    Column("number", Double),
    Column("json", Text, nullable=False),
    Column("shard_id", Integer, nullable=False),  # where the record is that says so
    Column("offset", BigInteger, nullable=False),
    Column("wall_time", Double),
)
"""A value of what a job's lineage files say, merged as MindInsight merges them."""

LINEAGE_FILE = Table(
    "lineage_files",
    METADATA,
    Column("shard_id", Integer, ForeignKey("shards.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("job_id", Integer, nullable=False),
    Column("state", Text, nullable=False),  # JSON, for the indexer
    Index(None, "job_id"),
)
"""What the records of one lineage file come to: what `lineage` is merged from."""

HPARAM = Table(
    "hparams",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("source", Text, primary_key=True),  # session, lineage
    Column("ordinal", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),  # number, string, bool, null, list, object
    Column("value", Text),  # as text
    Column("number", Double),
    Column("json", Text, nullable=False),
)
"""A hyperparameter of a job."""

HPARAM_RUN = Table(
    "hparam_runs",
    METADATA,
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("hparams", Text),  # JSON object; NULL: no run, but an experiment
    Column("group_name", Text),
    Column("status", Text),  # unknown, success, failure, running; NULL: no session
    Column("start_time", Double),
    Column("end_time", Double),
    Column("model_uri", Text),
    Column("monitor_url", Text),
    Column("experiment", Text),  # JSON
)
"""What is known of a job as one of several runs that are compared."""

RESTART = Table(
    "restarts",
    METADATA,
    Column("tag_id", Integer, ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),
    Column("shard_id", Integer, ForeignKey("shards.id", ondelete="CASCADE"), nullable=False),
    Column("cause", Text, nullable=False),
    Index(None, "shard_id"),  # for whoever deletes a file
    CheckConstraint("cause IN ('session_start', 'new_file', 'same_file')", name="cause"),
)
"""A tag that went back: its points with a smaller seq and a step of at least this one came before it."""


def _stretches(name: str) -> Table:
    """Return a table whose rows are stretches of a tag from one file."""
    return Table(
        name,
        METADATA,
        Column("tag_id", Integer, ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
        Column("ordinal", Integer, primary_key=True, autoincrement=False),  # 0, 1, 2 ... within the tag
        Column("shard_id", Integer, ForeignKey("shards.id", ondelete="CASCADE"), nullable=False),
        Column("first_step", BigInteger, nullable=False),
        Column("last_step", BigInteger, nullable=False),
        Column("first_seq", Integer, nullable=False),
        Column("last_seq", Integer, nullable=False),
        Column("count", BigInteger, nullable=False),
        Index(None, "shard_id"),
    )


TAG_SEGMENT = _stretches("tag_segments")
"""A stretch of a tag from one file. In the order (seq, step), which is load order, segments do not overlap."""

KEPT_SEGMENT = _stretches("kept_segments")
"""A stretch of a tag from a file that is gone, while its job is read again: its points are under minus its tag_id."""

KEPT_START = Table(
    "kept_starts",
    METADATA,
    Column("tag_id", Integer, ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),
    Column("shard_id", Integer, ForeignKey("shards.id", ondelete="CASCADE"), nullable=False),
    Index(None, "shard_id"),
)
"""A session start in such a file, with the seq that it had."""

INDEXER = Table(
    "indexers",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("heartbeat", Double, nullable=False),
    Column("state", Text, nullable=False),  # scanning, loading, watching, waiting, stopped
    Column("message", Text),  # what it waits for, what went wrong
)
"""A process that writes, or wrote: who holds the work, and whether it lives."""

INDEX_STATE = Table(
    "index_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("database_id", Text, nullable=False),  # random, made once
    Column("change_counter", BigInteger, nullable=False, server_default=text("0")),  # raised by every commit
    Column("scanned_at", Double),  # end of the last whole scan
    Column("outside_writes", BigInteger, nullable=False, server_default=text("0")),  # not by an indexer
    CheckConstraint("id = 1", name="one_row"),
)
"""One row: what the whole database counts."""

LOOSE_TAG = Table(
    "loose_tags",
    METADATA,
    Column("tag_id", Integer, primary_key=True, autoincrement=False),
    Column("row_count", BigInteger, nullable=False),  # roughly
    Column("sweep_after", Double, nullable=False),  # a reader may still be at them until then
    Column("reindex_id", Integer),  # they are the points to be of a job that is read again
)
"""Ids without a row in `tags`, so that nobody sees their points: deleted by and by, or not wholly there yet."""

PRUNED_JOB = Table(
    "pruned_jobs",
    METADATA,
    Column("root_id", Integer, ForeignKey("roots.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("train_key", LargeBinary, primary_key=True),  # text.key(train_id)
    Column("train_id", Text, nullable=False),
    Column("pruned_at", Double, nullable=False),
)
"""A job that was pruned while its files were on disk: scans pass over it."""

REINDEX = Table(
    "reindexes",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("file", Text),  # only this one is read; NULL: all that are on disk
    Column("requested_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("error", Text),
    Index(None, "job_id"),
)
"""A wish that a job be read again from its files."""

REMOVED_JOB = Table(
    "removed_jobs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("job_id", Integer, nullable=False),
    Column("root_id", Integer, nullable=False),
    Column("train_id", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),  # change_counter when it went
    Index(None, "revision"),
)
"""A job that is gone: the last 10,000, noted by a trigger. What went before the smallest revision is not known."""


# Explain files: written by db/explain.py, read by webapi/explained.py, as plain SQL
def _file() -> Column[int]:
    """Return the first column of a key: the explain file that a row is from."""
    return Column("shard_id", ForeignKey("explain_files.shard_id", ondelete="CASCADE"), primary_key=True)


def _number(name: str, *, big: bool = False) -> Column[int]:
    """Return another column of a key."""
    return Column(name, BigInteger() if big else Integer(), primary_key=True, autoincrement=False)


def _digest(name: str) -> Column[bytes]:
    """Return another column of a key: text.key of a name, which may be too long for an index."""
    return Column(name, LargeBinary(), primary_key=True)


Table(  # an explain file, and what it says as a whole
    "explain_files",
    METADATA,
    Column("shard_id", ForeignKey("shards.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("latest", Boolean(), nullable=False),  # of its job: MindInsight shows no other
    Column("status", Text()),  # as written last: run, end
    Column("label_count", Integer(), nullable=False),
    Column("sample_count", BigInteger(), nullable=False),  # with an image
    Column("record_count", BigInteger(), nullable=False),
    Column("error_count", BigInteger(), nullable=False),
    Column("uncertainty", Boolean(), nullable=False),  # a standard deviation was written
    Column("wall_time", Double()),  # of its last record
    Column("manifest", Text()),  # JSON object of the file beside it
    Index(None, "job_id"),
)
Table(  # a record as written
    "explain_records",
    METADATA,
    _file(),
    _number("offset", big=True),  # bytes, of the record in its file
    Column("length", BigInteger(), nullable=False),  # bytes, of its payload
    Column("wall_time", Double()),
    Column("step", BigInteger(), nullable=False),
    Column("sample_id", Integer()),
    Column("error", Text()),  # why it, or a part of it, is not in the other tables
    Column("data", LargeBinary()),  # NULL: too long, it stays in its file
)
Table(
    "explain_labels",
    METADATA,
    _file(),
    _number("label"),
    Column("name", Text(), nullable=False),
)
Table(  # explainers and metrics that the metadata names
    "explain_methods",
    METADATA,
    _file(),
    Column("kind", Text(), primary_key=True),
    _number("ordinal"),
    Column("name", Text(), nullable=False),
    CheckConstraint("kind IN ('explainer', 'metric')", name="kind"),
)
Table(
    "explain_samples",
    METADATA,
    _file(),
    _number("sample_id"),
    Column("image_path", Text()),  # relative to the job's directory
    Column("step", BigInteger(), nullable=False),  # of its first record
    Column("wall_time", Double()),
    Column("has_truth", Boolean(), nullable=False),  # its true labels were written: later ones do not count
    Column("has_inference", Boolean(), nullable=False),
)
Table(
    "explain_inferences",
    METADATA,
    _file(),
    _number("sample_id"),
    Column("role", Text(), primary_key=True),
    _number("ordinal"),
    Column("label", Integer()),  # NULL: not written yet
    Column("probability", Double()),
    Column("sd", Double()),
    Column("low", Double()),  # of the 95 % interval
    Column("high", Double()),
    CheckConstraint("role IN ('ground_truth', 'predicted')", name="role"),
    Index(None, "shard_id", "label", "sample_id"),
)
Table(
    "explain_saliency",
    METADATA,
    _file(),
    _number("sample_id"),
    _number("label"),
    _digest("explainer_key"),
    Column("explainer", Text(), nullable=False),
    Column("path", Text(), nullable=False),  # of the map, relative to the job's directory
    Column("record_offset", BigInteger(), nullable=False),  # where it was given first: their order
    Column("position", Integer(), nullable=False),  # within that record
)
Table(  # hierarchical occlusion
    "explain_hoc",
    METADATA,
    _file(),
    _number("sample_id"),
    _number("label"),
    _number("layer"),
    Column("mask", Text(), nullable=False),
    Column("probability", Double()),
    Column("boxes", Text(), nullable=False),  # JSON, [[x, y, width, height], ...], pixels
)
Table(
    "explain_benchmarks",
    METADATA,
    _file(),
    _digest("explainer_key"),
    _digest("metric_key"),
    _number("label"),  # -1: of all labels together
    Column("explainer", Text(), nullable=False),
    Column("metric", Text(), nullable=False),
    Column("score", Double()),
    Column("record_offset", BigInteger(), nullable=False),
    Column("position", Integer(), nullable=False),
)
