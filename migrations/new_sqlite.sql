CREATE TABLE summarydb_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT summarydb_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE roots (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    named BOOLEAN DEFAULT 0 NOT NULL,
    CONSTRAINT pk_roots PRIMARY KEY (id),
    CONSTRAINT uq_roots_name UNIQUE (name)
);

CREATE TABLE jobs (
    id INTEGER NOT NULL,
    root_id INTEGER NOT NULL,
    train_id TEXT NOT NULL,
    train_key BLOB NOT NULL,
    cache_status TEXT DEFAULT 'NOT_IN_CACHE' NOT NULL,
    create_time DOUBLE,
    update_time DOUBLE,
    start_time DOUBLE,
    bytes_on_disk BIGINT DEFAULT 0 NOT NULL,
    bytes_indexed BIGINT DEFAULT 0 NOT NULL,
    point_count BIGINT DEFAULT 0 NOT NULL,
    missing_since DOUBLE,
    last_error TEXT,
    access_time DOUBLE,
    revision BIGINT DEFAULT 0 NOT NULL,
    lease_owner INTEGER,
    lease_generation INTEGER DEFAULT 0 NOT NULL,
    lease_expires DOUBLE,
    CONSTRAINT pk_jobs PRIMARY KEY (id),
    CONSTRAINT fk_jobs_root_id_roots FOREIGN KEY(root_id) REFERENCES roots (id) ON DELETE CASCADE,
    CONSTRAINT uq_jobs_root_id_train_key UNIQUE (root_id, train_key),
    CONSTRAINT ck_jobs_cache_status CHECK (cache_status IN ('NOT_IN_CACHE', 'CACHING', 'CACHED'))
);

CREATE INDEX ix_jobs_update_time ON jobs (update_time);

CREATE INDEX ix_jobs_revision ON jobs (revision);

CREATE TABLE shards (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    generation INTEGER DEFAULT 0 NOT NULL,
    kind TEXT NOT NULL,
    format TEXT NOT NULL,
    cursor BIGINT DEFAULT 0 NOT NULL,
    size BIGINT DEFAULT 0 NOT NULL,
    mtime_ns BIGINT DEFAULT 0 NOT NULL,
    file_id TEXT,
    fingerprint BLOB,
    tail BLOB,
    state TEXT DEFAULT 'growing' NOT NULL,
    record_count BIGINT DEFAULT 0 NOT NULL,
    bad_records BIGINT DEFAULT 0 NOT NULL,
    bad_bytes BIGINT DEFAULT 0 NOT NULL,
    lost_since BIGINT,
    CONSTRAINT pk_shards PRIMARY KEY (id),
    CONSTRAINT fk_shards_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT uq_shards_job_id_name_generation UNIQUE (job_id, name, generation),
    CONSTRAINT ck_shards_kind CHECK (kind IN ('summary', 'lineage', 'explain', 'graph')),
    CONSTRAINT ck_shards_format CHECK (format IN ('mindspore', 'tensorboard')),
    CONSTRAINT ck_shards_state CHECK (state IN ('growing', 'torn', 'done', 'dead', 'replaced', 'missing'))
);

CREATE TABLE shard_errors (
    shard_id INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    length BIGINT NOT NULL,
    reason TEXT NOT NULL,
    CONSTRAINT pk_shard_errors PRIMARY KEY (shard_id, "offset"),
    CONSTRAINT fk_shard_errors_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE
);

CREATE TABLE tags (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    plugin TEXT NOT NULL,
    name TEXT NOT NULL,
    series_key BLOB NOT NULL,
    name_key BIGINT NOT NULL,
    data_class TEXT DEFAULT 'unknown' NOT NULL,
    metadata BLOB,
    content BLOB,
    display_name TEXT,
    description TEXT,
    point_count BIGINT DEFAULT 0 NOT NULL,
    first_step BIGINT,
    last_step BIGINT,
    min_step BIGINT,
    max_step BIGINT,
    first_wall_time DOUBLE,
    last_wall_time DOUBLE,
    max_wall_time DOUBLE,
    last_value DOUBLE,
    min_value DOUBLE,
    max_value DOUBLE,
    nan_count BIGINT DEFAULT 0 NOT NULL,
    pos_inf_count BIGINT DEFAULT 0 NOT NULL,
    neg_inf_count BIGINT DEFAULT 0 NOT NULL,
    max_length INTEGER DEFAULT 0 NOT NULL,
    seq INTEGER DEFAULT 0 NOT NULL,
    segments INTEGER DEFAULT 0 NOT NULL,
    CONSTRAINT pk_tags PRIMARY KEY (id),
    CONSTRAINT fk_tags_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE,
    CONSTRAINT uq_tags_job_id_series_key UNIQUE (job_id, series_key),
    CONSTRAINT ck_tags_data_class CHECK (data_class IN ('unknown', 'scalar', 'tensor', 'blob_sequence'))
);

CREATE INDEX ix_tags_name_key ON tags (name_key);

CREATE TABLE tensor_points (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    wall_time DOUBLE,
    value DOUBLE,
    CONSTRAINT pk_tensor_points PRIMARY KEY (tag_id, step, seq)
)
 WITHOUT ROWID;

CREATE TABLE restarts (
    tag_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    step BIGINT NOT NULL,
    shard_id INTEGER NOT NULL,
    cause TEXT NOT NULL,
    CONSTRAINT pk_restarts PRIMARY KEY (tag_id, seq),
    CONSTRAINT fk_restarts_tag_id_tags FOREIGN KEY(tag_id) REFERENCES tags (id) ON DELETE CASCADE,
    CONSTRAINT fk_restarts_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE,
    CONSTRAINT ck_restarts_cause CHECK (cause IN ('session_start', 'new_file', 'same_file'))
);

CREATE TABLE tag_segments (
    tag_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    shard_id INTEGER NOT NULL,
    first_step BIGINT NOT NULL,
    last_step BIGINT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT pk_tag_segments PRIMARY KEY (tag_id, ordinal),
    CONSTRAINT fk_tag_segments_tag_id_tags FOREIGN KEY(tag_id) REFERENCES tags (id) ON DELETE CASCADE,
    CONSTRAINT fk_tag_segments_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE
);

CREATE INDEX ix_tag_segments_shard_id ON tag_segments (shard_id);

CREATE TABLE indexers (
    id INTEGER NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at DOUBLE NOT NULL,
    heartbeat DOUBLE NOT NULL,
    state TEXT NOT NULL,
    message TEXT,
    CONSTRAINT pk_indexers PRIMARY KEY (id)
);

CREATE TABLE index_state (
    id INTEGER NOT NULL,
    database_id TEXT NOT NULL,
    change_counter BIGINT DEFAULT 0 NOT NULL,
    scanned_at DOUBLE,
    CONSTRAINT pk_index_state PRIMARY KEY (id),
    CONSTRAINT ck_index_state_one_row CHECK (id = 1)
);

INSERT INTO index_state (id, database_id, change_counter) VALUES (1, 'new', 0);

CREATE VIEW v_jobs AS
        SELECT j.train_id AS job, r.name AS root, j.cache_status, j.point_count, j.bytes_on_disk, j.bytes_indexed,
               j.create_time, CASE WHEN j.create_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', j.create_time, 'unixepoch') END AS created, j.update_time, CASE WHEN j.update_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', j.update_time, 'unixepoch') END AS updated,
               j.start_time, CASE WHEN j.start_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', j.start_time, 'unixepoch') END AS started, j.missing_since, j.last_error,
               (SELECT count(*) FROM tags t WHERE t.job_id = j.id) AS tag_count,
               (SELECT coalesce(sum(s.bad_records), 0) FROM shards s WHERE s.job_id = j.id) AS bad_records,
               j.id AS job_id, j.root_id
        FROM jobs j JOIN roots r ON r.id = j.root_id;

CREATE VIEW v_tags AS
        SELECT j.train_id AS job, t.name AS tag, t.plugin, t.data_class, t.display_name, t.description, t.point_count,
               t.first_step, t.last_step, t.min_step, t.max_step, t.first_wall_time, t.last_wall_time, t.max_wall_time,
               CASE WHEN t.last_wall_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', t.last_wall_time, 'unixepoch') END AS last_time, t.last_value, t.min_value, t.max_value,
               t.nan_count, t.pos_inf_count, t.neg_inf_count, t.max_length, t.job_id, t.id AS tag_id
        FROM tags t JOIN jobs j ON j.id = t.job_id;

CREATE VIEW v_scalars AS
        SELECT j.train_id AS job, t.name AS tag, p.step, p.wall_time, CASE WHEN p.wall_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', p.wall_time, 'unixepoch') END AS time, p.value,
               t.job_id, p.tag_id, p.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = p.tag_id AND r.seq > p.seq AND r.step <= p.step
    AND r.cause IN ('new_file', 'session_start'));

CREATE VIEW v_latest AS
        SELECT j.train_id AS job, t.name AS tag, p.step, p.wall_time, CASE WHEN p.wall_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', p.wall_time, 'unixepoch') END AS time, p.value,
               t.job_id, p.tag_id, p.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND (p.step, p.seq) = (
            SELECT q.step, q.seq FROM tensor_points q WHERE q.tag_id = t.id AND NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = q.tag_id AND r.seq > q.seq AND r.step <= q.step
    AND r.cause IN ('new_file', 'session_start'))
            ORDER BY q.step DESC, q.seq DESC LIMIT 1);

INSERT INTO summarydb_version (version_num) VALUES ('0001') RETURNING version_num;

CREATE TABLE point_rollups (
    tag_id INTEGER NOT NULL,
    level INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    count BIGINT NOT NULL,
    first_step BIGINT NOT NULL,
    first_seq INTEGER NOT NULL,
    first_wall_time DOUBLE,
    first_value DOUBLE,
    last_step BIGINT NOT NULL,
    last_seq INTEGER NOT NULL,
    last_wall_time DOUBLE,
    last_value DOUBLE,
    min_step BIGINT,
    min_seq INTEGER,
    min_wall_time DOUBLE,
    min_value DOUBLE,
    max_step BIGINT,
    max_seq INTEGER,
    max_wall_time DOUBLE,
    max_value DOUBLE,
    CONSTRAINT pk_point_rollups PRIMARY KEY (tag_id, level, ordinal)
)
 WITHOUT ROWID;

ALTER TABLE tags ADD COLUMN rolled_count BIGINT DEFAULT 0 NOT NULL;

ALTER TABLE tags ADD COLUMN rolled_step BIGINT;

UPDATE summarydb_version SET version_num='0002' WHERE summarydb_version.version_num = '0001';

CREATE TABLE blobs (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    kind TEXT NOT NULL,
    encoding TEXT NOT NULL,
    content_type TEXT NOT NULL,
    width INTEGER,
    height INTEGER,
    colorspace INTEGER,
    dtype TEXT,
    shape TEXT,
    length BIGINT NOT NULL,
    digest BLOB NOT NULL,
    facts TEXT,
    error TEXT,
    shard_id INTEGER,
    "offset" BIGINT,
    data BLOB,
    CONSTRAINT pk_blobs PRIMARY KEY (tag_id, step, seq, ordinal),
    CONSTRAINT ck_blobs_encoding CHECK (encoding IN ('raw', 'zlib', 'zstd', 'ref'))
);

CREATE TABLE blob_counts (
    tag_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    count BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    CONSTRAINT pk_blob_counts PRIMARY KEY (tag_id, kind),
    CONSTRAINT fk_blob_counts_tag_id_tags FOREIGN KEY(tag_id) REFERENCES tags (id) ON DELETE CASCADE
);

CREATE TABLE histogram_stats (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    buckets INTEGER NOT NULL,
    count DOUBLE,
    min DOUBLE,
    max DOUBLE,
    sum DOUBLE,
    sum_squares DOUBLE,
    mean DOUBLE,
    stddev DOUBLE,
    nan_count BIGINT,
    pos_inf_count BIGINT,
    neg_inf_count BIGINT,
    CONSTRAINT pk_histogram_stats PRIMARY KEY (tag_id, step, seq)
)
 WITHOUT ROWID;

CREATE TABLE tensor_stats (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    count BIGINT NOT NULL,
    min DOUBLE,
    max DOUBLE,
    mean DOUBLE,
    stddev DOUBLE,
    nan_count BIGINT NOT NULL,
    pos_inf_count BIGINT NOT NULL,
    neg_inf_count BIGINT NOT NULL,
    CONSTRAINT pk_tensor_stats PRIMARY KEY (tag_id, step, seq)
)
 WITHOUT ROWID;

CREATE VIEW v_histograms AS
        SELECT j.train_id AS job, t.name AS tag, b.step, p.wall_time, b.count, b.min, b.max, b.mean, b.stddev, b.sum,
               b.nan_count, b.pos_inf_count, b.neg_inf_count, b.buckets, t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN histogram_stats b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq WHERE NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'));

CREATE VIEW v_texts AS
        SELECT j.train_id AS job, t.name AS tag, b.step, b.ordinal, p.wall_time, CAST(b.data AS TEXT) AS text,
               t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN blobs b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq
        WHERE b.kind = 'text' AND b.encoding = 'raw' AND b.error IS NULL AND NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'));

UPDATE summarydb_version SET version_num='0003' WHERE summarydb_version.version_num = '0002';

CREATE TABLE graph_stats (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    nodes INTEGER NOT NULL,
    edges INTEGER NOT NULL,
    parameters INTEGER NOT NULL,
    constants INTEGER NOT NULL,
    outputs INTEGER NOT NULL,
    functions INTEGER NOT NULL,
    scopes INTEGER NOT NULL,
    CONSTRAINT pk_graph_stats PRIMARY KEY (tag_id, step, seq)
)
 WITHOUT ROWID;

CREATE TABLE graph_chunks (
    tag_id INTEGER NOT NULL,
    step BIGINT NOT NULL,
    seq INTEGER NOT NULL,
    start INTEGER NOT NULL,
    first BLOB NOT NULL,
    entries INTEGER NOT NULL,
    data BLOB NOT NULL,
    CONSTRAINT pk_graph_chunks PRIMARY KEY (tag_id, step, seq, start)
);

CREATE INDEX ix_graph_chunks_tag_id_step_seq_first ON graph_chunks (tag_id, step, seq, first);

CREATE VIEW v_graphs AS
        SELECT j.train_id AS job, t.name AS tag, t.plugin, b.step, p.wall_time, b.nodes, b.edges, b.parameters, b.constants, b.outputs, b.functions, b.scopes, t.job_id, b.tag_id, b.seq
        FROM jobs j JOIN tags t ON t.job_id = j.id JOIN graph_stats b ON b.tag_id = t.id
        JOIN tensor_points p ON p.tag_id = b.tag_id AND p.step = b.step AND p.seq = b.seq WHERE NOT EXISTS (SELECT 1 FROM restarts r WHERE r.tag_id = b.tag_id AND r.seq > b.seq AND r.step <= b.step
    AND r.cause IN ('new_file', 'session_start'));

UPDATE summarydb_version SET version_num='0004' WHERE summarydb_version.version_num = '0003';

CREATE TABLE lineage (
    job_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    section TEXT NOT NULL,
    "key" TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT,
    number DOUBLE,
    json TEXT NOT NULL,
    shard_id INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    wall_time DOUBLE,
    CONSTRAINT pk_lineage PRIMARY KEY (job_id, ordinal),
    CONSTRAINT fk_lineage_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE TABLE lineage_files (
    shard_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    CONSTRAINT pk_lineage_files PRIMARY KEY (shard_id),
    CONSTRAINT fk_lineage_files_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE
);

CREATE INDEX ix_lineage_files_job_id ON lineage_files (job_id);

CREATE TABLE hparams (
    job_id INTEGER NOT NULL,
    source TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT,
    number DOUBLE,
    json TEXT NOT NULL,
    CONSTRAINT pk_hparams PRIMARY KEY (job_id, source, ordinal),
    CONSTRAINT fk_hparams_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE TABLE hparam_runs (
    job_id INTEGER NOT NULL,
    hparams TEXT,
    group_name TEXT,
    status TEXT,
    start_time DOUBLE,
    end_time DOUBLE,
    model_uri TEXT,
    monitor_url TEXT,
    experiment TEXT,
    CONSTRAINT pk_hparam_runs PRIMARY KEY (job_id),
    CONSTRAINT fk_hparam_runs_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE VIEW v_lineage AS
        SELECT j.train_id AS job, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'optimizer' THEN l.value END) AS optimizer, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'learning_rate' THEN l.number END) AS learning_rate, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'loss_function' THEN l.value END) AS loss_function, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'epoch' THEN l.number END) AS epoch, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'batch_size' THEN l.number END) AS batch_size, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'device_num' THEN l.number END) AS device_num, max(CASE WHEN l.section = 'hyper_parameters' AND l.key = 'parallel_mode' THEN l.value END) AS parallel_mode, max(CASE WHEN l.section = 'train_dataset' AND l.key = 'train_dataset_path' THEN l.value END) AS train_dataset_path, max(CASE WHEN l.section = 'train_dataset' AND l.key = 'train_dataset_size' THEN l.number END) AS train_dataset_size, max(CASE WHEN l.section = 'valid_dataset' AND l.key = 'valid_dataset_path' THEN l.value END) AS valid_dataset_path, max(CASE WHEN l.section = 'valid_dataset' AND l.key = 'valid_dataset_size' THEN l.number END) AS valid_dataset_size, max(CASE WHEN l.section = 'algorithm' AND l.key = 'network' THEN l.value END) AS network, max(CASE WHEN l.section = 'algorithm' AND l.key = 'loss' THEN l.number END) AS loss, max(CASE WHEN l.section = 'model' AND l.key = 'path' THEN l.value END) AS model_path, max(CASE WHEN l.section = 'model' AND l.key = 'size' THEN l.number END) AS model_size, max(CASE WHEN l.section = 'metric' AND l.name = '' THEN l.json END) AS metric, max(CASE WHEN l.section = 'user_defined' AND l.name = '' THEN l.json END) AS user_defined, max(CASE WHEN l.section = 'dataset_graph' AND l.name = '' THEN l.json END) AS dataset_graph, j.id AS job_id
        FROM jobs j JOIN lineage l ON l.job_id = j.id GROUP BY j.id, j.train_id;

CREATE VIEW v_hparams AS
        SELECT j.train_id AS job, r.hparams, r.group_name, r.status, r.start_time, CASE WHEN r.start_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', r.start_time, 'unixepoch') END AS started,
               r.end_time, CASE WHEN r.end_time BETWEEN -62135596800.0 AND 253402300799.0 THEN strftime('%Y-%m-%d %H:%M:%f', r.end_time, 'unixepoch') END AS ended, r.model_uri, r.monitor_url, r.job_id
        FROM hparam_runs r JOIN jobs j ON j.id = r.job_id WHERE r.hparams IS NOT NULL;

UPDATE summarydb_version SET version_num='0005' WHERE summarydb_version.version_num = '0004';

CREATE TABLE explain_files (
    shard_id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    latest BOOLEAN NOT NULL,
    status TEXT,
    label_count INTEGER NOT NULL,
    sample_count BIGINT NOT NULL,
    record_count BIGINT NOT NULL,
    error_count BIGINT NOT NULL,
    uncertainty BOOLEAN NOT NULL,
    wall_time DOUBLE,
    manifest TEXT,
    CONSTRAINT pk_explain_files PRIMARY KEY (shard_id),
    CONSTRAINT fk_explain_files_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE,
    CONSTRAINT fk_explain_files_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_explain_files_job_id ON explain_files (job_id);

CREATE TABLE explain_records (
    shard_id INTEGER NOT NULL,
    "offset" BIGINT NOT NULL,
    length BIGINT NOT NULL,
    wall_time DOUBLE,
    step BIGINT NOT NULL,
    sample_id INTEGER,
    error TEXT,
    data BLOB,
    CONSTRAINT pk_explain_records PRIMARY KEY (shard_id, "offset"),
    CONSTRAINT fk_explain_records_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_labels (
    shard_id INTEGER NOT NULL,
    label INTEGER NOT NULL,
    name TEXT NOT NULL,
    CONSTRAINT pk_explain_labels PRIMARY KEY (shard_id, label),
    CONSTRAINT fk_explain_labels_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_methods (
    shard_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    CONSTRAINT pk_explain_methods PRIMARY KEY (shard_id, kind, ordinal),
    CONSTRAINT ck_explain_methods_kind CHECK (kind IN ('explainer', 'metric')),
    CONSTRAINT fk_explain_methods_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_samples (
    shard_id INTEGER NOT NULL,
    sample_id INTEGER NOT NULL,
    image_path TEXT,
    step BIGINT NOT NULL,
    wall_time DOUBLE,
    has_truth BOOLEAN NOT NULL,
    has_inference BOOLEAN NOT NULL,
    CONSTRAINT pk_explain_samples PRIMARY KEY (shard_id, sample_id),
    CONSTRAINT fk_explain_samples_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_inferences (
    shard_id INTEGER NOT NULL,
    sample_id INTEGER NOT NULL,
    role TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    label INTEGER,
    probability DOUBLE,
    sd DOUBLE,
    low DOUBLE,
    high DOUBLE,
    CONSTRAINT pk_explain_inferences PRIMARY KEY (shard_id, sample_id, role, ordinal),
    CONSTRAINT ck_explain_inferences_role CHECK (role IN ('ground_truth', 'predicted')),
    CONSTRAINT fk_explain_inferences_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE INDEX ix_explain_inferences_shard_id_label_sample_id ON explain_inferences (shard_id, label, sample_id);

CREATE TABLE explain_saliency (
    shard_id INTEGER NOT NULL,
    sample_id INTEGER NOT NULL,
    label INTEGER NOT NULL,
    explainer_key BLOB NOT NULL,
    explainer TEXT NOT NULL,
    path TEXT NOT NULL,
    record_offset BIGINT NOT NULL,
    position INTEGER NOT NULL,
    CONSTRAINT pk_explain_saliency PRIMARY KEY (shard_id, sample_id, label, explainer_key),
    CONSTRAINT fk_explain_saliency_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_hoc (
    shard_id INTEGER NOT NULL,
    sample_id INTEGER NOT NULL,
    label INTEGER NOT NULL,
    layer INTEGER NOT NULL,
    mask TEXT NOT NULL,
    probability DOUBLE,
    boxes TEXT NOT NULL,
    CONSTRAINT pk_explain_hoc PRIMARY KEY (shard_id, sample_id, label, layer),
    CONSTRAINT fk_explain_hoc_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE TABLE explain_benchmarks (
    shard_id INTEGER NOT NULL,
    explainer_key BLOB NOT NULL,
    metric_key BLOB NOT NULL,
    label INTEGER NOT NULL,
    explainer TEXT NOT NULL,
    metric TEXT NOT NULL,
    score DOUBLE,
    record_offset BIGINT NOT NULL,
    position INTEGER NOT NULL,
    CONSTRAINT pk_explain_benchmarks PRIMARY KEY (shard_id, explainer_key, metric_key, label),
    CONSTRAINT fk_explain_benchmarks_shard_id_explain_files FOREIGN KEY(shard_id) REFERENCES explain_files (shard_id) ON DELETE CASCADE
);

CREATE VIEW v_explain_inferences AS
        SELECT j.train_id AS job, s.name AS file, i.sample_id, p.image_path, i.role, i.label, l.name AS label_name,
               i.probability, i.sd, i.low, i.high, f.job_id, f.shard_id
        FROM explain_files f JOIN jobs j ON j.id = f.job_id JOIN shards s ON s.id = f.shard_id
        JOIN explain_inferences i ON i.shard_id = f.shard_id
        JOIN explain_samples p ON p.shard_id = i.shard_id AND p.sample_id = i.sample_id
        LEFT JOIN explain_labels l ON l.shard_id = i.shard_id AND l.label = i.label
        WHERE f.latest AND i.label IS NOT NULL;

CREATE VIEW v_explain_scores AS
        SELECT j.train_id AS job, s.name AS file, b.explainer, b.metric, b.label, l.name AS label_name, b.score,
               f.job_id, f.shard_id
        FROM explain_files f JOIN jobs j ON j.id = f.job_id JOIN shards s ON s.id = f.shard_id
        JOIN explain_benchmarks b ON b.shard_id = f.shard_id
        LEFT JOIN explain_labels l ON l.shard_id = b.shard_id AND l.label = b.label
        WHERE f.latest;

UPDATE summarydb_version SET version_num='0006' WHERE summarydb_version.version_num = '0005';

CREATE TABLE kept_segments (
    tag_id INTEGER NOT NULL,
    ordinal INTEGER NOT NULL,
    shard_id INTEGER NOT NULL,
    first_step BIGINT NOT NULL,
    last_step BIGINT NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    count BIGINT NOT NULL,
    CONSTRAINT pk_kept_segments PRIMARY KEY (tag_id, ordinal),
    CONSTRAINT fk_kept_segments_tag_id_tags FOREIGN KEY(tag_id) REFERENCES tags (id) ON DELETE CASCADE,
    CONSTRAINT fk_kept_segments_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE
);

CREATE INDEX ix_kept_segments_shard_id ON kept_segments (shard_id);

CREATE TABLE kept_starts (
    tag_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    step BIGINT NOT NULL,
    shard_id INTEGER NOT NULL,
    CONSTRAINT pk_kept_starts PRIMARY KEY (tag_id, seq),
    CONSTRAINT fk_kept_starts_tag_id_tags FOREIGN KEY(tag_id) REFERENCES tags (id) ON DELETE CASCADE,
    CONSTRAINT fk_kept_starts_shard_id_shards FOREIGN KEY(shard_id) REFERENCES shards (id) ON DELETE CASCADE
);

CREATE INDEX ix_kept_starts_shard_id ON kept_starts (shard_id);

UPDATE summarydb_version SET version_num='0007' WHERE summarydb_version.version_num = '0006';

CREATE TABLE loose_tags (
    tag_id INTEGER NOT NULL,
    row_count BIGINT NOT NULL,
    sweep_after DOUBLE NOT NULL,
    reindex_id INTEGER,
    CONSTRAINT pk_loose_tags PRIMARY KEY (tag_id)
);

CREATE TABLE pruned_jobs (
    root_id INTEGER NOT NULL,
    train_key BLOB NOT NULL,
    train_id TEXT NOT NULL,
    pruned_at DOUBLE NOT NULL,
    CONSTRAINT pk_pruned_jobs PRIMARY KEY (root_id, train_key),
    CONSTRAINT fk_pruned_jobs_root_id_roots FOREIGN KEY(root_id) REFERENCES roots (id) ON DELETE CASCADE
);

CREATE TABLE reindexes (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    file TEXT,
    requested_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    error TEXT,
    CONSTRAINT pk_reindexes PRIMARY KEY (id),
    CONSTRAINT fk_reindexes_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

CREATE INDEX ix_reindexes_job_id ON reindexes (job_id);

CREATE INDEX ix_restarts_shard_id ON restarts (shard_id);

ALTER TABLE jobs ADD COLUMN evicted_at DOUBLE;

ALTER TABLE index_state ADD COLUMN outside_writes BIGINT DEFAULT 0 NOT NULL;

UPDATE summarydb_version SET version_num='0008' WHERE summarydb_version.version_num = '0007';

CREATE TABLE removed_jobs (
    id INTEGER NOT NULL,
    job_id INTEGER NOT NULL,
    root_id INTEGER NOT NULL,
    train_id TEXT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT pk_removed_jobs PRIMARY KEY (id)
);

CREATE INDEX ix_removed_jobs_revision ON removed_jobs (revision);

INSERT INTO removed_jobs (job_id, root_id, train_id, revision) SELECT 0, 0, '', change_counter FROM index_state;

CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN UPDATE index_state SET change_counter = change_counter + 1; INSERT INTO removed_jobs (job_id, root_id, train_id, revision) SELECT OLD.id, OLD.root_id, OLD.train_id, change_counter FROM index_state; DELETE FROM removed_jobs WHERE id <= (SELECT max(id) - 10000 FROM removed_jobs); END;

UPDATE summarydb_version SET version_num='0009' WHERE summarydb_version.version_num = '0008';

ALTER TABLE jobs ADD COLUMN listed_create_time DOUBLE;

ALTER TABLE jobs ADD COLUMN listed_update_time DOUBLE;

ALTER TABLE jobs ADD COLUMN explain_create_time DOUBLE;

ALTER TABLE jobs ADD COLUMN explain_update_time DOUBLE;

ALTER TABLE jobs ADD COLUMN profiler_dir TEXT;

ALTER TABLE jobs ADD COLUMN profiler_type TEXT;

ALTER TABLE jobs ADD COLUMN graph_mode TEXT;

ALTER TABLE jobs ADD COLUMN dump_dir TEXT;

UPDATE jobs SET listed_update_time = update_time WHERE EXISTS (SELECT 1 FROM shards s WHERE s.job_id = jobs.id AND s.kind IN ('summary', 'lineage', 'graph') AND s.state <> 'replaced');

UPDATE jobs SET explain_update_time = update_time WHERE EXISTS (SELECT 1 FROM shards s WHERE s.job_id = jobs.id AND s.kind IN ('explain') AND s.state <> 'replaced');

CREATE TABLE annotations (
    job_id INTEGER NOT NULL,
    tag INTEGER,
    remark TEXT,
    alias TEXT,
    changed_at DOUBLE NOT NULL,
    CONSTRAINT pk_annotations PRIMARY KEY (job_id),
    CONSTRAINT fk_annotations_job_id_jobs FOREIGN KEY(job_id) REFERENCES jobs (id) ON DELETE CASCADE
);

UPDATE summarydb_version SET version_num='0010' WHERE summarydb_version.version_num = '0009';

CREATE VIEW v_grafana AS
        SELECT strftime('%Y-%m-%dT%H:%M:%fZ', p.wall_time, 'unixepoch') AS time,
               CASE WHEN (SELECT count(*) FROM roots) > 1 THEN r.name || ':' ELSE '' END || j.train_id || ' ' || t.name
               AS metric, p.value, p.wall_time AS epoch, r.name AS root, j.train_id AS job, t.name AS tag, p.step,
               j.id AS job_id, t.id AS tag_id, p.seq
        FROM jobs j JOIN roots r ON r.id = j.root_id JOIN tags t ON t.job_id = j.id
        JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND p.wall_time BETWEEN -62135596800.0 AND 253402300799.0
        AND NOT EXISTS (SELECT 1 FROM restarts x WHERE x.tag_id = p.tag_id AND x.seq > p.seq AND x.step <= p.step
                        AND x.cause IN ('new_file', 'session_start'));

UPDATE summarydb_version SET version_num='0011' WHERE summarydb_version.version_num = '0010';

ALTER TABLE jobs ADD COLUMN pruned_at DOUBLE;

UPDATE summarydb_version SET version_num='0012' WHERE summarydb_version.version_num = '0011';
