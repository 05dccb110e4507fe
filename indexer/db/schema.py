"""All tables, checks and indexes; nothing else. Views live in the migrations that create them.

Points and rollups carry no foreign keys: a look-up a row would halve the speed of a load, and they are only ever
written together with their tag. Names are compared by key (see `indexer.text.key`).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Names of constraints are the same on every database, so migrations can speak of them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012  # SQLAlchemy's own convention
        str: Text(),
        float: Double(),
        bytes: LargeBinary(),
    }


class Root(Base):
    """A base directory. A named one is known by its name, another by its path."""

    __tablename__ = "roots"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    path: Mapped[str]
    named: Mapped[bool] = mapped_column(server_default=false())


class Job(Base):
    """A train job: a directory below a root that holds summary files."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("root_id", "train_key"),
        CheckConstraint("cache_status IN ('NOT_IN_CACHE', 'CACHING', 'CACHED')", name="cache_status"),
        Index(None, "update_time"),
        Index(None, "revision"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    root_id: Mapped[int] = mapped_column(ForeignKey("roots.id", ondelete="CASCADE"))
    train_id: Mapped[str]  # './a/b', escaped by indexer.text.store
    train_key: Mapped[bytes]  # text.key(train_id)
    cache_status: Mapped[str] = mapped_column(server_default="NOT_IN_CACHE")
    create_time: Mapped[float | None]  # newest timestamp in a file's name
    update_time: Mapped[float | None]  # largest mtime of its files
    start_time: Mapped[float | None]  # smallest finite wall_time of any event
    bytes_on_disk: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bytes_indexed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    point_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    missing_since: Mapped[float | None]
    last_error: Mapped[str | None]
    access_time: Mapped[float | None]
    revision: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # change_counter of its last commit
    lease_owner: Mapped[int | None]  # indexers.id; PostgreSQL only
    lease_generation: Mapped[int] = mapped_column(server_default=text("0"))
    lease_expires: Mapped[float | None]


class Shard(Base):
    """One event file. `generation` tells files apart that had the same name one after the other."""

    __tablename__ = "shards"
    __table_args__ = (
        UniqueConstraint("job_id", "name", "generation"),
        CheckConstraint("kind IN ('summary', 'lineage', 'explain', 'graph')", name="kind"),
        CheckConstraint("format IN ('mindspore', 'tensorboard')", name="format"),
        CheckConstraint("state IN ('growing', 'torn', 'done', 'dead', 'replaced', 'missing')", name="state"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    name: Mapped[str]  # escaped by indexer.text.store
    generation: Mapped[int] = mapped_column(server_default=text("0"))
    kind: Mapped[str]
    format: Mapped[str]
    cursor: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # bytes consumed
    size: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # bytes, when last seen
    mtime_ns: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    file_id: Mapped[str | None]  # "device:inode"
    fingerprint: Mapped[bytes | None]  # digest of the first min(cursor, 4 KiB)
    tail: Mapped[bytes | None]  # digest of the last min(cursor, 4 KiB) before the cursor
    state: Mapped[str] = mapped_column(server_default="growing")
    record_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # good ones
    bad_records: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    bad_bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    lost_since: Mapped[int | None] = mapped_column(BigInteger)  # offset where damage began that nothing good ended yet


class ShardError(Base):
    """One damage seen. At most 1,000 a shard are kept as rows; `shards.bad_records` counts all."""

    __tablename__ = "shard_errors"
    shard_id: Mapped[int] = mapped_column(ForeignKey("shards.id", ondelete="CASCADE"), primary_key=True)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # bytes
    length: Mapped[int] = mapped_column(BigInteger)  # bytes
    reason: Mapped[str]


class Tag(Base):
    """One series of a job. Statistics are over all stored points, superseded too; min and max over finite values."""

    __tablename__ = "tags"
    __table_args__ = (
        UniqueConstraint("job_id", "series_key"),
        CheckConstraint("data_class IN ('unknown', 'scalar', 'tensor', 'blob_sequence')", name="data_class"),
        Index(None, "name_key"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    plugin: Mapped[str]
    name: Mapped[str]  # as in the file, escaped by indexer.text.store
    series_key: Mapped[bytes]  # text.key(plugin, name)
    name_key: Mapped[int] = mapped_column(BigInteger)  # text.short_key(name)
    data_class: Mapped[str] = mapped_column(server_default="unknown")
    metadata_: Mapped[bytes | None] = mapped_column("metadata")  # SummaryMetadata as written
    content: Mapped[bytes | None]  # its plugin_data.content
    display_name: Mapped[str | None]
    description: Mapped[str | None]
    point_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    first_step: Mapped[int | None] = mapped_column(BigInteger)  # first and last: in load order
    last_step: Mapped[int | None] = mapped_column(BigInteger)
    min_step: Mapped[int | None] = mapped_column(BigInteger)
    max_step: Mapped[int | None] = mapped_column(BigInteger)
    first_wall_time: Mapped[float | None]
    last_wall_time: Mapped[float | None]
    max_wall_time: Mapped[float | None]
    last_value: Mapped[float | None]
    min_value: Mapped[float | None]
    max_value: Mapped[float | None]
    nan_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    pos_inf_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    neg_inf_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    max_length: Mapped[int] = mapped_column(server_default=text("0"))  # of a blob sequence
    seq: Mapped[int] = mapped_column(server_default=text("0"))  # of the point loaded last, session starts counted
    segments: Mapped[int] = mapped_column(server_default=text("0"))  # how many tag_segments it has
    rolled_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # current points in closed buckets
    rolled_step: Mapped[int | None] = mapped_column(BigInteger)  # step of the last of them; raw points above it


class TensorPoint(Base):
    """One point. A row a point is the source of truth: `SELECT step, value ... WHERE tag_id = ?` works anywhere."""

    __tablename__ = "tensor_points"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  # half the bytes, and a range scan a series
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    wall_time: Mapped[float | None]  # as in the file; NULL is NaN
    value: Mapped[float | None]  # NULL is NaN, or no number


class PointRollup(Base):
    """A closed bucket of 64 * 8**level current points of a tag, in step order: a chart of any length costs the same.

    Only finite values count for min and max (both NULL where there is none). The open end of a series has no bucket.
    """

    __tablename__ = "point_rollups"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    first_step: Mapped[int] = mapped_column(BigInteger)
    first_seq: Mapped[int]
    first_wall_time: Mapped[float | None]
    first_value: Mapped[float | None]
    last_step: Mapped[int] = mapped_column(BigInteger)
    last_seq: Mapped[int]
    last_wall_time: Mapped[float | None]
    last_value: Mapped[float | None]
    min_step: Mapped[int | None] = mapped_column(BigInteger)
    min_seq: Mapped[int | None]
    min_wall_time: Mapped[float | None]
    min_value: Mapped[float | None]
    max_step: Mapped[int | None] = mapped_column(BigInteger)
    max_seq: Mapped[int | None]
    max_wall_time: Mapped[float | None]
    max_value: Mapped[float | None]


class Blob(Base):
    """One payload of a point that is no number. Several of one point have ordinals 0, 1, 2 ...

    `data` comes last, so that reading the other columns does not touch it, and the table has rowids: rows are long.
    """

    __tablename__ = "blobs"
    __table_args__ = (CheckConstraint("encoding IN ('raw', 'zlib', 'zstd', 'ref')", name="encoding"),)
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    kind: Mapped[str]  # of indexer.plugins
    encoding: Mapped[str]  # of `data`: raw, zlib; ref: in the file, at `offset` of `shard_id`
    content_type: Mapped[str]
    width: Mapped[int | None]
    height: Mapped[int | None]
    colorspace: Mapped[int | None]
    dtype: Mapped[str | None]
    shape: Mapped[str | None]  # JSON, "[2, 3]"
    length: Mapped[int] = mapped_column(BigInteger)  # bytes, decoded
    digest: Mapped[bytes]  # SHA-256 of the decoded bytes
    facts: Mapped[str | None]  # JSON object of its kind
    error: Mapped[str | None]  # why it could not be decoded
    shard_id: Mapped[int | None]  # of a ref
    offset: Mapped[int | None] = mapped_column(BigInteger)  # bytes, in its file
    data: Mapped[bytes | None]


class BlobCount(Base):
    """What blobs of a kind a tag has: lists and `status` need not count them."""

    __tablename__ = "blob_counts"
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)  # of them could not be decoded
    bytes: Mapped[int] = mapped_column(BigInteger)  # decoded


class HistogramStats(Base):
    """What a histogram says in numbers. What the writer does not give is estimated from the buckets."""

    __tablename__ = "histogram_stats"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    buckets: Mapped[int]
    count: Mapped[float | None]  # finite values
    min: Mapped[float | None]
    max: Mapped[float | None]
    sum: Mapped[float | None]  # NULL where the writer gives none
    sum_squares: Mapped[float | None]  # likewise
    mean: Mapped[float | None]
    stddev: Mapped[float | None]  # from the buckets where sum_squares is NULL
    nan_count: Mapped[int | None] = mapped_column(BigInteger)
    pos_inf_count: Mapped[int | None] = mapped_column(BigInteger)
    neg_inf_count: Mapped[int | None] = mapped_column(BigInteger)


class TensorStats(Base):
    """What a tensor of numbers says in numbers: over finite elements, as 64-bit floats."""

    __tablename__ = "tensor_stats"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)  # elements
    min: Mapped[float | None]
    max: Mapped[float | None]
    mean: Mapped[float | None]
    stddev: Mapped[float | None]
    nan_count: Mapped[int] = mapped_column(BigInteger)
    pos_inf_count: Mapped[int] = mapped_column(BigInteger)
    neg_inf_count: Mapped[int] = mapped_column(BigInteger)


class GraphStats(Base):
    """How much there is in a graph."""

    __tablename__ = "graph_stats"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    nodes: Mapped[int]
    edges: Mapped[int]
    parameters: Mapped[int]
    constants: Mapped[int]
    outputs: Mapped[int]
    functions: Mapped[int]
    scopes: Mapped[int]


class GraphChunk(Base):
    """Nodes and scopes of a graph in the order of their names, so many a row; indexer.graphs reads them.

    The table has rowids: rows are long.
    """

    __tablename__ = "graph_chunks"
    __table_args__ = (Index(None, "tag_id", "step", "seq", "first"),)
    tag_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    start: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)  # number of its first entry
    first: Mapped[bytes]  # sort key of that entry, cut to 200 bytes
    entries: Mapped[int]  # how many
    data: Mapped[bytes]  # deflated


class Restart(Base):
    """A tag that went back: its points with a smaller seq and a step of at least this one came before it."""

    __tablename__ = "restarts"
    __table_args__ = (CheckConstraint("cause IN ('session_start', 'new_file', 'same_file')", name="cause"),)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    step: Mapped[int] = mapped_column(BigInteger)
    shard_id: Mapped[int] = mapped_column(ForeignKey("shards.id", ondelete="CASCADE"))
    cause: Mapped[str]


class TagSegment(Base):
    """A stretch of a tag from one file. In the order (seq, step), which is load order, segments do not overlap."""

    __tablename__ = "tag_segments"
    __table_args__ = (Index(None, "shard_id"),)
    tag_id: Mapped[int] = mapped_column(ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # 0, 1, 2 ... within the tag
    shard_id: Mapped[int] = mapped_column(ForeignKey("shards.id", ondelete="CASCADE"))
    first_step: Mapped[int] = mapped_column(BigInteger)
    last_step: Mapped[int] = mapped_column(BigInteger)
    first_seq: Mapped[int]
    last_seq: Mapped[int]
    count: Mapped[int] = mapped_column(BigInteger)


class Indexer(Base):
    """A process that writes, or wrote: who holds the work, and whether it lives."""

    __tablename__ = "indexers"
    id: Mapped[int] = mapped_column(primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    started_at: Mapped[float]
    heartbeat: Mapped[float]
    state: Mapped[str]  # scanning, loading, watching, waiting, stopped
    message: Mapped[str | None]  # what it waits for, what went wrong


class IndexState(Base):
    """One row: what the whole database counts."""

    __tablename__ = "index_state"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    database_id: Mapped[str]  # random, made once
    change_counter: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))  # raised by every commit
    scanned_at: Mapped[float | None]  # end of the last whole scan
