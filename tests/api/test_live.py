"""What changed, told as it happens and when it is asked, on both databases."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, select, update
from structlog.testing import capture_logs

from indexer.db.schema import INDEX_STATE, JOB, REMOVED_JOB, TAG
from indexer.errors import Retry
from tests.api.conftest import ODD_JOB, Api, changed, job_row, tag_row
from tests.support.engines import transaction
from tests.support.statements import statements
from webapi import live, queries
from webapi.app import create_app
from webapi.live import Hub
from webapi.v1 import Site

Event = tuple[str, Any]


def counter(engine: Engine) -> int:
    """Return the change counter."""
    with transaction(engine) as conn:
        return int(conn.execute(select(INDEX_STATE.c.change_counter)).scalar_one())


def remove(engine: Engine, *jobs: int) -> None:
    """Delete jobs as somebody may who knows nothing of us."""
    with transaction(engine) as conn:
        conn.execute(delete(JOB).where(JOB.c.id.in_(jobs)))


@contextmanager
def listening(api: Api, query: str = "", **headers: str) -> Iterator[Iterator[Event]]:
    """Listen to /events; yields its events as (name, data), and the id as the name of a number."""
    answer = api.app.test_client().get(f"/api/v1/events{query}", headers=headers)
    assert (200, "text/event-stream") == (answer.status_code, answer.content_type.partition(";")[0])
    with closing(answer):
        yield events(iter(answer.response))  # type: ignore[arg-type]


def events(chunks: Iterator[bytes]) -> Iterator[Event]:
    """Read server-sent events, as a browser does."""
    for chunk in chunks:
        for block in chunk.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "id" in fields:
                yield "id", int(fields["id"])
            if "event" in fields:
                yield fields["event"], json.loads(fields["data"])


def batch(heard: Iterator[Event]) -> list[Event]:
    """Return events up to the one that ends a batch, which must agree with its id."""
    found: list[Event] = []
    for name, data in heard:
        found.append((name, data))
        if name == "change":
            assert ("id", data["change_counter"]) == found[-2]
            return [*found[:-2], ("end", data["change_counter"])]
    raise AssertionError("no end of events")


# /changes -------------------------------------------------------------------------------------------------------------
def test_changes_begin_where_the_counter_is(api: Api, filled: Engine) -> None:
    """Without `since` there is nothing to tell but where to begin."""
    changed(filled, 1)
    assert {"since": counter(filled), "reset": False, "removed": [], "items": [], "next": None} == api.get("/changes")


def test_changes_tell_what_was_committed_since(api: Api, filled: Engine) -> None:
    """Jobs that were changed come with all their columns and how many tags they have; others do not."""
    since = api.get("/changes")["since"]
    assert [] == api.get("/changes", {"since": since})["items"]
    changed(filled, 2)
    changed(filled, 1)
    found = api.get("/changes", {"since": since})
    assert [(2, 2), (1, 8)] == [(job["id"], job["tag_count"]) for job in found["items"]]
    assert {**api.get("/jobs/1"), "tag_count": 8} == found["items"][1]
    assert since + 2 == found["since"]
    assert [1] == [job["id"] for job in api.get("/changes", {"since": since + 1})["items"]]


def test_an_unchanged_poll_of_changes_costs_one_row(api: Api, filled: Engine) -> None:
    """Nothing but the change counter is read for who has the answer, and for who is up to date."""
    changed(filled, 1)
    since = counter(filled)
    tag = api.request(f"/api/v1/changes?since={since}").headers["ETag"]
    with statements(api.reader) as sent:
        again = api.request(f"/api/v1/changes?since={since}", headers={"If-None-Match": tag})
    assert (304, 1) == (again.status_code, len(sent))


def test_jobs_that_went_are_told(api: Api, filled: Engine) -> None:
    """Whoever deletes, and however: the counter moves, the jobs are named, a new job under the id comes too."""
    since = counter(filled)
    remove(filled, 6, 8)
    assert counter(filled) > since
    found = api.get("/changes", {"since": since})
    assert ([(6, ODD_JOB), (8, "./100%_Done")], []) == (
        [(gone["job"], gone["train_id"]) for gone in found["removed"]],
        found["items"],
    )
    with transaction(filled) as conn:
        conn.execute(insert(JOB).values(**job_row(8, 1, "./again")))
    changed(filled, 8)
    found = api.get("/changes", {"since": since})
    assert ([6, 8], [8]) == ([gone["job"] for gone in found["removed"]], [job["id"] for job in found["items"]])
    assert [] == api.get("/changes", {"since": found["since"]})["removed"]


def test_a_root_that_goes_takes_its_jobs_with_it(api: Api, filled: Engine) -> None:
    """Jobs that a foreign key deletes are noted too."""
    since = counter(filled)
    with transaction(filled) as conn:
        conn.exec_driver_sql("DELETE FROM roots WHERE id = 2")
    assert [3] == [gone["job"] for gone in api.get("/changes", {"since": since})["removed"]]


def test_many_deletions_are_kept_within_bounds(api: Api, filled: Engine) -> None:
    """The last 10,000 are kept; who was away for longer is told to begin anew, and gets every job."""
    since = counter(filled)
    with transaction(filled) as conn:
        conn.execute(insert(JOB), [job_row(1_000 + n, 1, f"./many{n}") for n in range(10_005)])
        conn.execute(delete(JOB).where(JOB.c.id >= 1_000))
        kept = conn.execute(select(func.count()).select_from(REMOVED_JOB)).scalar_one()
    assert 10_000 == kept
    found = api.get("/changes", {"since": since})
    assert (True, [], list(range(1, 9))) == (found["reset"], found["removed"], sorted(j["id"] for j in found["items"]))
    assert api.get("/changes", {"since": found["since"]})["reset"] is False


def test_a_number_of_another_database_begins_anew(api: Api, filled: Engine) -> None:
    """A counter that this database never reached is of another one."""
    found = api.get("/changes", {"since": counter(filled) + 1})
    assert (True, 8, counter(filled)) == (found["reset"], len(found["items"]), found["since"])


def test_pages_of_changes_miss_nothing(api: Api, filled: Engine) -> None:
    """While pages are read jobs change, come and go: each change is in a page, or behind the last `since`."""
    changed(filled, *range(1, 9))
    found = api.get("/changes", {"since": 0, "limit": 3})
    seen, since = found["items"], found["since"]
    changed(filled, 1)
    remove(filled, 7)
    with transaction(filled) as conn:
        conn.execute(insert(JOB).values(**job_row(9, 1, "./new")))
    changed(filled, 9)
    while found["next"] is not None:
        found = api.get("/changes", {"since": 0, "limit": 3, "after": found["next"]})
        seen += found["items"]
    assert since == found["since"]
    assert set(range(1, 10)) - {7} == {job["id"] for job in seen}
    later = api.get("/changes", {"since": found["since"]})
    assert ([7], [1, 9]) == ([gone["job"] for gone in later["removed"]], [job["id"] for job in later["items"]])


@pytest.mark.parametrize(
    ("name", "values"),
    [("since", ["-1", "x", "1.5", str(2**63)]), ("wait", ["-1", "31", "x"]), ("after", ["x", "e30"])],
)
def test_what_changes_cannot_be_asked(api: Api, name: str, values: list[str]) -> None:
    """A parameter that cannot be right is named."""
    for value in values:
        assert name == api.get("/changes", {name: value}, status=400)["parameter"]


def test_a_poll_may_wait(api: Api, filled: Engine) -> None:
    """With `wait` the answer comes with the next commit; at once where there is one already."""
    since = counter(filled)
    changed(filled, 1)
    assert [1] == [job["id"] for job in api.get("/changes", {"since": since, "wait": 30})["items"]]
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(api.get("/changes", {"since": since + 1, "wait": 30})))
    hub: Hub = api.app.extensions[live.EXTENSION]
    asking.start()
    while hub.clients == 0:
        asking.join(0.005)
    changed(filled, 2)
    asking.join(20)
    assert [[2]] == [[job["id"] for job in answer["items"]] for answer in answers]


# /events --------------------------------------------------------------------------------------------------------------
def test_events_come_with_commits(api: Api, filled: Engine) -> None:
    """A client hears each commit: jobs added, changed and gone, and where the counter is."""
    with listening(api) as heard:
        assert [("end", counter(filled))] == batch(heard)
        changed(filled, 1, 2)
        *jobs, end = batch(heard)
        assert [("job", 1), ("job", 2)] == [(name, job["id"]) for name, job in jobs]
        assert jobs[0][1] == {**api.get("/jobs/1"), "tag_count": 8}
        assert ("end", counter(filled)) == end
        with transaction(filled) as conn:
            conn.execute(update(JOB).where(JOB.c.id == 3).values(cache_status="CACHING"))
            conn.execute(insert(TAG).values(**tag_row(100, 3, "scalars", "loss")))
        changed(filled, 3)
        (job, _) = batch(heard)
        assert ("CACHING", 1) == (job[1]["cache_status"], job[1]["tag_count"])
        remove(filled, 3)
        (gone, _) = batch(heard)
        assert ("removed", 3, "./a") == (gone[0], gone[1]["job"], gone[1]["train_id"])


@pytest.mark.parametrize("how", ["header", "parameter"])
def test_who_comes_back_misses_nothing(api: Api, filled: Engine, how: str) -> None:
    """What happened in between comes first, from Last-Event-ID as browsers send it or from `since`."""
    with listening(api) as heard:
        (_, last) = batch(heard)[-1]
    changed(filled, 1)
    remove(filled, 8)
    query, headers = ("", {"Last-Event-ID": str(last)}) if how == "header" else (f"?since={last}", {})
    with listening(api, query, **headers) as heard:
        gone, job, end = batch(heard)
        assert [("removed", 8), ("job", 1)] == [(gone[0], gone[1]["job"]), (job[0], job[1]["id"])]
        assert ("end", counter(filled)) == end
        changed(filled, 2)
        assert ["job", "end"] == [name for name, _ in batch(heard)]


def test_who_comes_from_elsewhere_begins_anew(api: Api, filled: Engine) -> None:
    """An id of another database is answered with all jobs, after a word that what was known is void."""
    with listening(api, **{"Last-Event-ID": str(counter(filled) + 1_000)}) as heard:
        found = batch(heard)
    assert ["reset", *["job"] * 8, "end"] == [name for name, _ in found]
    assert list(range(1, 9)) == sorted(job["id"] for name, job in found if name == "job")
    assert ("end", counter(filled)) == found[-1]


def test_a_backlog_comes_in_pages(api: Api, filled: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many jobs changed, a page is in memory; the client is told once to begin anew."""
    monkeypatch.setattr(live, "PAGE_JOBS", 3)
    with listening(api, "?since=9999") as heard:
        found = batch(heard)
    assert ["reset", *["job"] * 8, "end"] == [name for name, _ in found]


@pytest.mark.parametrize("value", ["", "x", "-1", "1.5", "9" * 30, "\u0665"])
def test_an_id_that_is_none_is_named(api: Api, value: str) -> None:
    """What no event had as its id is an error."""
    sent = value.encode().decode("latin-1")
    answer = api.app.test_client().get("/api/v1/events", headers={"Last-Event-ID": sent})
    assert (400, "Last-Event-ID") == (answer.status_code, (answer.json or {})["parameter"])


def test_only_so_many_listen(api: Api, filled: Engine) -> None:
    """More clients than may be get 503 with Retry-After; whoever goes makes room, also one that read nothing."""
    api.app = create_app(replace(api.config, max_events_clients=2), api.reader)
    asking = api.app.test_client()
    with listening(api), listening(api):
        for path in ("/api/v1/events", f"/api/v1/changes?since={counter(filled)}&wait=5"):
            refused = asking.get(path)
            assert (503, "1") == (refused.status_code, refused.headers["Retry-After"])
            assert "--max-events-clients" in refused.text
        assert 200 == asking.get("/api/v1/changes").status_code
        assert 200 == asking.head("/api/v1/events").status_code
    with listening(api) as first, listening(api) as second:
        assert batch(first) == batch(second)


def test_who_comes_while_the_server_ends_is_told_so(api: Api, filled: Engine) -> None:
    """It is no matter of how many listen."""
    hub: Hub = api.app.extensions[live.EXTENSION]
    hub.close()
    answer = api.app.test_client().get("/api/v1/events")
    assert (503, True) == (answer.status_code, "the server ends" in answer.text)


def test_events_are_neither_kept_nor_held_back(api: Api, filled: Engine) -> None:
    """No cache stores them, no proxy collects them, and nothing compresses them."""
    for method in ("GET", "HEAD"):
        with closing(
            api.app.test_client().open("/api/v1/events", method=method, headers={"Accept-Encoding": "gzip, zstd"})
        ) as answer:
            assert ("no-store", "no") == (answer.headers["Cache-Control"], answer.headers["X-Accel-Buffering"])
            assert not {"Content-Encoding", "Content-Length", "ETag"} & set(answer.headers.keys())
            assert "nosniff" == answer.headers["X-Content-Type-Options"]


# The hub --------------------------------------------------------------------------------------------------------------
@pytest.fixture
def site(api: Api, filled: Engine) -> Site:
    """What the application shares."""
    return Site(api.config, api.reader, "1.0")


def test_one_thread_looks_for_all(api: Api, filled: Engine, site: Site) -> None:
    """A commit costs the same statements whether one client listens or six."""
    sent_by: list[int] = []
    for clients in (1, 6):
        hub = Hub(site)
        with hub.client():
            streams = [events(hub.events(None, lambda: False)) for _ in range(clients)]
            for heard in streams:
                batch(heard)
            hub.wait(-1, seconds=10)
            with statements(api.reader) as sent:
                changed(filled, 1)
                assert all(["job", "end"] == [name for name, _ in batch(heard)] for heard in streams)
            sent_by.append(sum("FROM jobs" in sql for sql in sent))
            hub.close()
    assert 1 == len(set(sent_by))


def test_a_quiet_connection_is_kept_alive(filled: Engine, site: Site) -> None:
    """Where nothing happens a comment comes now and then, and goes on coming."""
    hub = Hub(site, heartbeat_seconds=0.01)
    with hub.client():
        heard = hub.events(None, lambda: False)
        found = [next(heard) for _ in range(5)]
    assert [b": still here\n\n"] * 3 == found[2:]


def test_a_client_that_is_gone_is_let_go(filled: Engine, site: Site) -> None:
    """The stream ends when the server says that nobody is there any more."""
    hub = Hub(site)
    gone = threading.Event()
    with hub.client():
        heard = hub.events(None, gone.is_set)
        next(heard)
        next(heard)
        gone.set()
        assert [] == list(heard)


def test_all_are_sent_away_at_the_end(filled: Engine, site: Site) -> None:
    """Whoever waits when the program ends is let go at once, and nobody comes in any more."""
    hub = Hub(site)
    entered, left = threading.Event(), threading.Event()

    def listen() -> None:
        with hub.client():
            for _ in hub.events(None, lambda: False):
                entered.set()
        left.set()

    threading.Thread(target=listen, daemon=True).start()
    assert entered.wait(20)
    hub.close()
    assert left.wait(20)
    with pytest.raises(Retry):
        hub.enter()


def test_nobody_looks_where_nobody_listens(api: Api, filled: Engine, site: Site) -> None:
    """The thread ends with the last client, and the next one starts another."""
    hub = Hub(site, poll_seconds=0.001)
    for _ in range(2):
        with hub.client():
            assert hub.wait(-1, seconds=20)
            poller = hub.poller
            assert poller is not None
        poller.join(20)
        assert not poller.is_alive()
        assert hub.poller is None


def test_a_database_that_is_away_is_waited_for(
    api: Api, filled: Engine, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database cannot be read clients stay, one line says so, and afterwards they hear what happened."""
    monkeypatch.setattr(live, "FAILED_SECONDS", 0.005)
    real, tried = queries.state, threading.Event()
    hub = Hub(site, poll_seconds=0.001)

    def away(_conn: object) -> object:
        tried.set()
        raise Retry("the database is away")

    with hub.client(), capture_logs() as lines:
        heard = events(hub.events(None, lambda: False))
        batch(heard)
        assert hub.wait(-1, seconds=20)
        monkeypatch.setattr(queries, "state", away)
        assert tried.wait(20)
        changed(filled, 1)
        monkeypatch.setattr(queries, "state", real)
        assert ["job", "end"] == [name for name, _ in batch(heard)]
    assert ["changes_unread"] == [line["event"] for line in lines]


def test_another_database_in_its_place_begins_anew(filled: Engine, site: Site) -> None:
    """A database that was restored from before is noticed: its clients are cut, come again, and begin anew."""
    hub = Hub(site, poll_seconds=0.001)
    changed(filled, 1)
    with hub.client():
        heard = hub.events(None, lambda: False)
        next(heard)
        next(heard)
        assert hub.wait(-1, seconds=20)
        with transaction(filled) as conn:
            conn.execute(update(INDEX_STATE).values(change_counter=0))
        assert [] == list(heard)
