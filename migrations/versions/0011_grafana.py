"""v_grafana: current points as Grafana wants them, a time, a metric and a value.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"

# Grafana's plugin for SQLite reads times as RFC 3339 or as seconds, so this is not what the other views have.
TIME = {
    "sqlite": "strftime('%Y-%m-%dT%H:%M:%fZ', p.wall_time, 'unixepoch')",
    "postgresql": "to_timestamp(p.wall_time)",
}


def upgrade() -> None:
    """Add the view. Points without a time that a timestamp can hold have no place in a chart over time."""
    time = TIME[op.get_context().dialect.name]
    op.execute(f"""CREATE VIEW v_grafana AS
        SELECT {time} AS time,
               CASE WHEN (SELECT count(*) FROM roots) > 1 THEN r.name || ':' ELSE '' END || j.train_id || ' ' || t.name
               AS metric, p.value, p.wall_time AS epoch, r.name AS root, j.train_id AS job, t.name AS tag, p.step,
               j.id AS job_id, t.id AS tag_id, p.seq
        FROM jobs j JOIN roots r ON r.id = j.root_id JOIN tags t ON t.job_id = j.id
        JOIN tensor_points p ON p.tag_id = t.id
        WHERE t.data_class = 'scalar' AND p.wall_time BETWEEN -62135596800.0 AND 253402300799.0
        AND NOT EXISTS (SELECT 1 FROM restarts x WHERE x.tag_id = p.tag_id AND x.seq > p.seq AND x.step <= p.step
                        AND x.cause IN ('new_file', 'session_start'))""")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP VIEW v_grafana")
