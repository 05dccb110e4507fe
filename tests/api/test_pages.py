"""The start page and the docs page: readable, safe whatever names hold, nothing from elsewhere."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from sqlalchemy import Engine

from indexer import text
from indexer.db.schema import JOB, ROOT
from tests.api.conftest import SCRIPT, Api, add, job_row
from tests.support.engines import transaction
from webapi.app import size, when

NASTY = [
    SCRIPT,
    "'\"><b onmouseover=alert(1)>",
    "</table></main><script src=//evil.example></script>",
    "{{ 7*7 }}",
    "\x1b[2J",
    "‮",
]


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep an element."""
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def page(api: Api, path: str) -> Page:
    """Return a page, which is HTML in UTF-8."""
    answer = api.request(path)
    assert (200, "text/html; charset=utf-8") == (answer.status_code, answer.content_type)
    return Page(answer.text)


def test_the_start_page_lists_jobs(api: Api) -> None:
    """Every job is there with its state, progress, points, time and damage, and links into the API that answer."""
    found = page(api, "/")
    rows = len(found.all("progress"))
    assert 8 == rows
    for words in ("CACHING", "NOT_IN_CACHE", "500 B of 1000 B", "1970-01-01 00:03:20", "150 bad, 600 B"):
        assert words in found.words
    links = {link["href"] or "" for link in found.all("a")}
    assert {"/api/v1/jobs/1", "/api/v1/jobs/1/tags", "/api/v1/jobs/1/files", "/api/v1/series?job=1"} <= links
    for link in links:
        assert 200 == api.request(link).status_code, link


@pytest.mark.parametrize("path", ["/", "/api/v1/docs"])
def test_pages_need_nothing_from_elsewhere(api: Api, path: str) -> None:
    """Scripts and styles are files of our own, so the strict policy lets them in, and no page is broken offline."""
    found = page(api, path)
    own = [link["href"] for link in found.all("link")] + [script.get("src") for script in found.all("script")]
    for address in own:
        assert address is not None
        assert address.startswith("/static/")
        assert 200 == api.request(address).status_code
    for name, attributes in found.elements:
        assert name not in {"style", "iframe", "object", "base"}
        assert not any(attribute == "style" or attribute.startswith("on") for attribute in attributes)


def test_names_are_never_markup(api: Api, filled: Engine) -> None:
    """Whatever roots and jobs are called, the page has the same elements, and shows the names."""
    before = {name for name, _ in page(api, "/").elements}
    with transaction(filled) as conn:
        for number, name in enumerate(NASTY):
            root = {"id": 20 + number, "name": text.store(name + "\udcff"), "path": "/", "named": True}
            add(conn, ROOT, [root])
            more = {"last_error": name, "cache_status": "CACHED", "update_time": 1e9}
            add(conn, JOB, [job_row(20 + number, 20 + number, text.store(f"./{name}")) | more])
    found = page(api, "/")
    assert before == {name for name, _ in found.elements}
    assert 1 == len(found.all("script"))
    for name in NASTY:
        assert 2 <= found.words.count(name)


def test_what_is_searched_is_never_markup(api: Api) -> None:
    """The search text comes back as text, also bytes that are no UTF-8."""
    for query in ("%22%3E%3Cscript%3E", "%ff", "%00", "%F0%9F%92%A5"):
        found = page(api, f"/?q={query}")
        assert 1 == len(found.all("script"))
    (field,) = page(api, "/?q=%22%3E%3Cscript%3E").all("input")
    assert '"><script>' == field["value"]


def test_the_start_page_has_pages(api: Api) -> None:
    """Links to more jobs lead through all of them, keeping the filter."""
    seen, address = 0, "/?limit=3&q=./"
    for _ in range(10):
        found = page(api, address)
        seen += len(found.all("progress"))
        more = [link["href"] for link in found.all("a") if "after=" in (link["href"] or "")]
        if not more:
            break
        assert "q=" in (more[0] or "")
        address = f"/{more[0]}"
    assert 8 == seen
    assert 400 == api.request("/?limit=x").status_code


def test_an_empty_database_says_what_comes(api: Api, filled: Engine) -> None:
    """Before the first scan the page says that jobs will appear."""
    with transaction(filled) as conn:
        conn.exec_driver_sql("DELETE FROM jobs")
        conn.exec_driver_sql("DELETE FROM indexers")
    words = page(api, "/").words
    assert "No jobs yet" in words
    assert "No indexer has run yet" in words
    assert "holds “x”" in page(api, "/?q=x").words


def test_a_change_of_the_indexer_changes_the_page(api: Api, filled: Engine) -> None:
    """An indexer that comes alive shows, though no commit raised the counter."""
    tag = api.request("/").headers["ETag"]
    with transaction(filled) as conn:
        conn.exec_driver_sql(f"UPDATE indexers SET heartbeat = {time.time()}, state = 'loading', message = '<b>'")
    answer = api.request("/", headers={"If-None-Match": tag})
    assert 200 == answer.status_code
    assert "Indexer loading: &lt;b&gt;" in answer.text


def test_the_docs_show_every_route_and_parameter(api: Api) -> None:
    """The page is the document: paths, parameters, fields and errors; its links lead somewhere."""
    html = api.request("/api/v1/docs").text
    found = Page(html)
    targets = {attributes["id"] for _, attributes in found.elements if "id" in attributes}
    for link in found.all("a"):
        address = link["href"] or ""
        assert address[1:] in targets if address.startswith("#") else api.request(address).status_code == 200, address
    for path, methods in api.document["paths"].items():
        assert f"GET {path}" in found.words
        for parameter in methods["get"]["parameters"]:
            assert parameter["description"].replace("`", "") in re.sub(r"\s+", " ", found.words)
    for name, schema in api.document["components"]["schemas"].items():
        assert name in targets
        for field in schema["properties"]:
            assert field in found.words


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, ""), (0.0, "1970-01-01 00:00:00"), (1e300, "1e+300"), (float("inf"), "inf"), (-1e12, "-1000000000000.0")],
)
def test_times_no_calendar_has_are_shown_as_numbers(seconds: float | None, expected: str) -> None:
    """A damaged time never breaks the page."""
    assert expected == when(seconds)


def test_sizes_are_readable() -> None:
    """Sizes come with a unit."""
    assert ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "2.0 GiB", "4096.0 TiB"] == [
        size(count) for count in (0, 1023, 1024, 3 * 2**19, 2**31, 2**52)
    ]
