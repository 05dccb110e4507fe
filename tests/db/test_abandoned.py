"""What a dead indexer left behind is noticed by whoever reads."""

from __future__ import annotations

from sqlalchemy import Engine, select, text

from indexer.db import write
from indexer.db.connection import Database, transaction
from indexer.db.schema import INDEX_STATE, JOB
from tests.support import engines


def test_jobs_that_nobody_loads_any_more_changed(database: Database, engine: Engine) -> None:
    """A job that goes back to NOT_IN_CACHE has a new revision, or views of it would stay as they were."""
    with engines.transaction(engine) as conn:
        conn.execute(text("INSERT INTO roots (id, name, path) VALUES (1, 'runs', '/runs')"))
        for job, status in ((1, "CACHING"), (2, "CACHED")):
            conn.execute(
                text(
                    "INSERT INTO jobs (id, root_id, train_id, train_key, cache_status)"
                    " VALUES (:id, 1, :name, :key, :status)"
                ),
                {"id": job, "name": f"./{job}", "key": bytes([job]), "status": status},
            )
    with transaction(database) as conn:
        write.abandoned(conn, [1], 0.0)
        write.abandoned(conn, [1], 0.0)
    with engines.transaction(engine) as conn:
        found = conn.execute(select(JOB.c.cache_status, JOB.c.revision).order_by(JOB.c.id)).all()
        counter = conn.execute(select(INDEX_STATE.c.change_counter)).scalar_one()
    assert ([("NOT_IN_CACHE", 1), ("CACHED", 0)], 1) == ([tuple(row) for row in found], counter)
