"""`/metrics`: valid, documented, cheap, true, and of few labels."""

from __future__ import annotations

import re

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from tests.api.conftest import Api
from tests.support.engines import transaction
from tests.support.program import CHECKOUT
from tests.support.statements import statements
from webapi.app import TALLY
from webapi.metrics import CONTENT_TYPE, METRICS
from webapi.tally import BOUNDS, Tally

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(api: Api) -> Values:
    """Return all samples, through Prometheus' own parser."""
    answer = api.request("/metrics")
    assert (200, CONTENT_TYPE, "no-store") == (
        answer.status_code,
        answer.content_type,
        answer.headers["Cache-Control"],
    )
    found: Values = {}
    for family in text_string_to_metric_families(answer.text):
        assert family.documentation
        assert "unknown" != family.type
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def value(found: Values, name: str, **labels: str) -> float:
    """Return one sample."""
    return found[f"summarydb_{name}", frozenset(labels.items())]


def test_what_the_tables_hold(api: Api) -> None:
    """Sums over jobs, files and indexers, as the tables have them."""
    found = read(api)
    assert 1 == value(found, "database_readable")
    assert [1, 1, 6] == [value(found, "jobs", cache_status=s) for s in ("NOT_IN_CACHE", "CACHING", "CACHED")]
    assert (65, 0, 1) == tuple(value(found, name) for name in ("points", "jobs_missing", "jobs_failed"))
    assert (2050, 1550, 500) == tuple(value(found, f"{name}_bytes") for name in ("summary", "indexed", "behind"))
    assert (151, 609) == (value(found, "bad_records"), value(found, "bad_bytes"))
    assert [1, 1, 1, 0] == [value(found, "files", state=s) for s in ("done", "torn", "growing", "missing")]
    assert value(found, "changes_total") >= 1
    assert value(found, "database_bytes") > 10_000
    assert value(found, "indexer_heartbeat_age_seconds", holder="here:4711") > 1e9
    assert 1 == value(found, "indexer_state", holder="here:4711", state="watching")
    assert (0, 1) == (value(found, "indexers_alive"), value(found, "problems"))
    on_disk = {name for name, _ in found} & {f"summarydb_{n}_bytes" for n in ("wal", "disk_free", "disk")}
    assert (3 if "sqlite" == api.reader.dialect.name else 0) == len(on_disk)


def test_statements_stay_few(api: Api) -> None:
    """Some sums over jobs and files: nothing that grows with points."""
    with statements(api.reader) as sent:
        api.request("/metrics")
    assert len(sent) <= 10
    assert not [statement for statement in sent if re.search("tensor_points|tags|blobs", str(statement))]


def test_requests_are_counted_by_route(api: Api, filled: Engine) -> None:
    """By template, whatever was asked for: names of jobs, strange paths and parameters make no new label."""
    for path in ("/jobs/1", "/jobs/2", "/jobs/./nobody", "/jobs/1?x=1"):
        api.request(f"/api/v1{path}")
    for path in ("/no/such", "/neither", "/\u202e"):
        api.request(path)
    found = read(api)
    route = "/api/v1/jobs/<path:rest>"
    assert [2, 1, 1] == [value(found, "http_requests_total", route=route, status=s) for s in ("200", "404", "400")]
    assert 3 == value(found, "http_requests_total", route="none", status="404")
    assert 4 == value(found, "http_request_duration_seconds_count", route=route)
    assert 4 == value(found, "http_request_duration_seconds_bucket", route=route, le="+Inf")
    known = {rule.rule for rule in api.app.url_map.iter_rules()} | {"none"}
    assert {dict(labels)["route"] for name, labels in found if name.endswith("requests_total")} <= known


def test_refusals_are_counted(api: Api, filled: Engine) -> None:
    """Those never come to a route."""
    api.app.extensions[TALLY].refused(503)
    assert 1 == value(read(api), "http_requests_refused_total", status="503")


def test_a_database_that_cannot_be_read_is_a_fact(api: Api, filled: Engine) -> None:
    """The process' own numbers are told all the same."""
    with transaction(filled) as conn:
        conn.exec_driver_sql("UPDATE summarydb_version SET version_num = '9999'")
    found = read(api)
    assert (0, 0) == (value(found, "database_readable"), value(found, "events_clients"))
    assert "summarydb_jobs" not in {name for name, _ in found}


def test_every_metric_is_documented(api: Api) -> None:
    """The page and the program name the same metrics, with the same kinds and words."""
    page = (CHECKOUT / "docs/metrics.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(summarydb_\w+)` \| (\w+) \| [^|]* \| (.*) \|$", page, re.MULTILINE)
    assert [(m.name, m.kind, m.help) for m in METRICS] == listed
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name, _ in read(api)}
    assert shown <= {metric.name for metric in METRICS}


def test_durations_fall_into_buckets() -> None:
    """A bucket holds its upper end; what took longer than all of them is counted too."""
    tally = Tally()
    for seconds in (0.0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9):
        tally.answered("/", 200, seconds)
    _, durations, _ = tally.seen()
    assert [2, 1, *[0] * (len(BOUNDS) - 2), 1] == durations["/"].buckets
