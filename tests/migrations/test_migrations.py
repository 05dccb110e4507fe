"""The schema by migrations is the schema as declared, from every past revision, on both databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from indexer.db import migrate
from indexer.db.condition import examine
from indexer.db.engine import open_engine
from indexer.db.migrate import NEW
from indexer.errors import Refuse
from indexer.version import REVISION, VERSION_TABLE
from migrations.write_new import DIALECTS, script
from summarydb import status
from tests.conftest import Backend
from tests.support.engines import transaction, writer

REVISIONS = [script.revision for script in reversed(list(ScriptDirectory(str(migrate.MIGRATIONS)).walk_revisions()))]
VIEWS = {"v_jobs", "v_tags", "v_scalars", "v_latest", "v_lineage", "v_hparams", "v_grafana"}


def test_the_declared_revision_is_the_newest() -> None:
    """`serve` compares with REVISION, so it must be alembic's head."""
    assert REVISIONS[-1] == REVISION


def test_models_equal_migrations(empty_url: str) -> None:
    """Alembic finds nothing to add to a database that was migrated to the head."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine))
    with transaction(engine) as conn:
        command.check(migrate.config(conn))
    assert set(inspect(engine).get_view_names()) >= VIEWS
    engine.dispose()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_new_database_is_made_of_all_revisions(dialect: str) -> None:
    """The scripts for new databases are what alembic writes today."""
    assert script(dialect) == Path(NEW.format(dialect)).read_text(encoding="utf-8")


def test_a_new_database_equals_a_migrated_one(backend: Backend, empty_url: str) -> None:
    """Whether made at once or revision by revision: tables, indexes, checks and views are the same."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine))
    made = reflected(engine)
    migrate.downgrade(writer(engine), "base")
    for revision in REVISIONS:
        migrate.upgrade(writer(engine), revision)
    assert made == reflected(engine)
    engine.dispose()


def reflected(engine: Engine) -> object:
    """Return everything the database says of its schema."""
    found = inspect(engine)
    return (
        {
            table: (
                [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table)],
                found.get_pk_constraint(table),
                sorted(map(str, found.get_foreign_keys(table))),
                sorted(map(str, found.get_unique_constraints(table))),
                sorted(map(str, found.get_check_constraints(table))),
                sorted(map(str, found.get_indexes(table))),
            )
            for table in found.get_table_names()
        },
        {view: found.get_view_definition(view) for view in found.get_view_names()},
    )


@pytest.mark.parametrize("revision", REVISIONS)
def test_upgrade_from_every_past_revision(empty_url: str, revision: str) -> None:
    """A database of any release is brought to the head in place, with its rows."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine), revision)
    with transaction(engine) as conn:
        conn.execute(text("INSERT INTO roots (id, name, path) VALUES (1, 'runs', '/runs')"))
        conn.execute(
            text("INSERT INTO jobs (id, root_id, train_id, train_key) VALUES (1, 1, './a', :key)"), {"key": b"k"}
        )
        conn.execute(
            text(
                "INSERT INTO tags (id, job_id, plugin, name, series_key, name_key, data_class)"
                " VALUES (1, 1, 'scalars', 'loss', :key, 1, 'scalar')"
            ),
            {"key": b"k"},
        )
        conn.execute(text("INSERT INTO tensor_points VALUES (1, 5, 0, 1.5, 0.25)"))
    migrate.upgrade(writer(engine))
    assert migrate.current(engine) == REVISION
    with transaction(engine) as conn:
        assert conn.execute(text("SELECT job, tag, step, value FROM v_scalars")).one() == ("./a", "loss", 5, 0.25)
        command.check(migrate.config(conn))
    engine.dispose()


def test_downgrade_of_the_last_and_back(empty_url: str) -> None:
    """The newest revision can be undone and done again."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine))
    migrate.downgrade(writer(engine), REVISIONS[-2])
    assert REVISIONS[-2] == migrate.current(engine)
    migrate.upgrade(writer(engine))
    with transaction(engine) as conn:
        command.check(migrate.config(conn))
    engine.dispose()


@pytest.mark.parametrize("revision", REVISIONS)
def test_status_and_doctor_read_every_schema(empty_url: str, revision: str) -> None:
    """What an older schema lacks is not there; all else is told, with the command that helps."""
    engine = open_engine(empty_url)
    migrate.upgrade(writer(engine), revision)
    with transaction(engine) as conn:
        conn.execute(text("INSERT INTO roots (id, name, path, named) VALUES (1, 'runs', '/runs', FALSE)"))
        job = "INSERT INTO jobs (id, root_id, train_id, train_key, bytes_on_disk) VALUES (1, 1, './a', :key, 7)"
        conn.execute(text(job), {"key": b"k"})
    told = status.read(empty_url)
    assert (revision, 7, None, None) == (
        told["schema"],
        *(told["jobs"][0][name] for name in ("lag", "evicted_at", "pruned_at")),
    )
    assert ("db upgrade" in status.render(told)) == (revision != REVISION)
    assert (revision, ["/runs"]) == ((found := examine(empty_url)).revision, found.roots)
    engine.dispose()


def test_a_foreign_database_is_refused(empty_url: str) -> None:
    """Tables of another program are never touched."""
    engine = open_engine(empty_url)
    with transaction(engine) as conn:
        conn.execute(text("CREATE TABLE customers (id INTEGER)"))
    with pytest.raises(Refuse, match=r"another program \(customers\)"):
        migrate.upgrade(writer(engine))
    engine.dispose()


@pytest.mark.parametrize(("revision", "says"), [("0001", "db upgrade"), ("9999", "newer summarydb")])
def test_another_schema_is_refused_with_what_to_do(engine: object, url: str, revision: str, says: str) -> None:
    """`serve` names the command that helps."""
    opened = open_engine(url)
    with transaction(opened) as conn:
        conn.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision})
    with pytest.raises(Refuse, match=says):
        migrate.require(opened)
    opened.dispose()
