"""MindInsight's own page: which files are sent, as what, and under which policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from indexer.config import Config
from webapi import headers
from webapi.app import create_app
from webapi.mindinsight import bundle, ui

SECRET = b"let secret"
FILES = {
    "index.html": b"<!doctype html><div id=app></div>",
    "static/js/app.js": b"let a;" * 400,
    "static/js/graphvizlib.wasm": b"\0asm",
    "static/css/app.css": b"a{}",
    "static/img/a.svg": b"<svg/>",
    "static/notes.txt": b"no part of a page",
}


@pytest.fixture
def front_end(tmp_path: Path) -> Path:
    """A front-end as it is built, in the place where its package has it, and a secret beside it."""
    root = tmp_path / "mindinsight/ui/dist"
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "mindinsight/ui/secret.js").write_bytes(SECRET)
    (root / "static/js/out.js").symlink_to(tmp_path / "mindinsight/ui/secret.js")
    (root / "static/js/in.js").symlink_to("app.js")
    return tmp_path / "mindinsight"


class Asking:
    """A client of the application with a front-end."""

    def __init__(self, url: str, reader: Engine, setting: str, **more: str) -> None:
        self.app = create_app(Config(url=url, mindinsight_ui=setting, **more), reader)  # type: ignore[arg-type]

    def get(self, path: str, method: str = "GET", **sent: str) -> TestResponse:
        """Ask for a path."""
        return self.app.test_client().open(path, method=method, headers=sent, buffered=True)


@pytest.fixture
def asking(url: str, reader: Engine, front_end: Path) -> Asking:
    """A client of the page."""
    return Asking(url, reader, bundle.named(str(front_end)))


SENT = [
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/static/js/app.js", "static/js/app.js", "text/javascript; charset=utf-8"),
    ("/static/js/in.js", "static/js/app.js", "text/javascript; charset=utf-8"),
    ("/static/css/app.css", "static/css/app.css", "text/css; charset=utf-8"),
    ("/static/img/a.svg", "static/img/a.svg", "image/svg+xml"),
    ("/static/js/graphvizlib.wasm", "static/js/graphvizlib.wasm", "application/wasm"),
    ("/graphvizlib.wasm", "static/js/graphvizlib.wasm", "application/wasm"),
]


def test_files_are_sent(asking: Asking) -> None:
    """Each with its type and the page's policy, once: a 304 bears the same policy, for browsers keep its headers."""
    for path, file, content_type in SENT:
        answer = asking.get(f"/mindinsight{path}")
        assert (200, FILES[file], content_type) == (answer.status_code, answer.data, answer.content_type)
        assert "nosniff" == answer.headers["X-Content-Type-Options"]
        again = asking.get(f"/mindinsight{path}", **{"If-None-Match": answer.headers["ETag"]})
        assert (304, b"") == (again.status_code, again.data)
        head = asking.get(f"/mindinsight{path}", "HEAD")
        assert (200, b"", str(len(FILES[file]))) == (head.status_code, head.data, head.headers["Content-Length"])
        assert {ui.POLICY} == {one.headers["Content-Security-Policy"] for one in (answer, again, head)}
        assert 405 == asking.get(f"/mindinsight{path}", "POST").status_code


def test_nothing_else_is(asking: Asking) -> None:
    """No path, link or type leads out of the front-end; what is not there has the policy of all the rest."""
    parents = ("../index.html", "../../secret.js", "js/../../../secret.js", "..\\..\\secret.js")
    quoted = ("..%2f..%2fsecret.js", "js/%2e%2e/%2e%2e/%2e%2e/secret.js", "%00.js", "js/app.js%00.css", "%ff.js")
    absent = ("js/none.js", "js/out.js", "notes.txt", "js", "js/", "", "/etc/passwd", "x" * 5_000 + ".js")
    for name in parents + quoted + absent:
        answer = asking.get(f"/mindinsight/static/{name}")
        assert 404 == answer.status_code, name
        assert SECRET not in answer.data, name
        assert headers.SAFE["Content-Security-Policy"] == answer.headers["Content-Security-Policy"], name


def test_only_its_paths_have_its_policy(asking: Asking) -> None:
    """Our own pages and the API forbid `eval` as before; the routes below the page have MindInsight's headers."""
    for path in ("/", "/api/v1/jobs", "/static/style.css", "/mindinsight-not", "/mindinsight/none"):
        assert headers.SAFE["Content-Security-Policy"] == asking.get(path).headers["Content-Security-Policy"]
    routes = asking.get("/mindinsight/v1/mindinsight/ui-config")
    assert ({"enable_debugger": False}, "no-store") == (routes.json, routes.headers["Cache-Control"])


def test_a_path_without_its_slash_leads_there(url: str, reader: Engine, front_end: Path) -> None:
    """For the page looks for everything below itself; also below a prefix, and with a token on its way."""
    asking = Asking(url, reader, bundle.named(str(front_end)), url_prefix="/below")
    answer = asking.get("/below/mindinsight?a=b%20c")
    assert (308, "/below/mindinsight/?a=b%20c") == (answer.status_code, answer.headers["Location"])
    assert b'href="/below/mindinsight/"' in asking.get("/below/").data


def test_the_page_needs_the_token_too(url: str, reader: Engine, front_end: Path) -> None:
    """Nothing of it is sent to those who may not read."""
    asking = Asking(url, reader, bundle.named(str(front_end)), token="s3cret")
    for path in ("/mindinsight/", "/mindinsight/static/js/app.js", "/mindinsight/graphvizlib.wasm"):
        assert 401 == asking.get(path).status_code
        assert 200 == asking.get(path, Authorization="Bearer s3cret").status_code


def test_without_a_front_end_the_page_says_how_to_get_it(url: str, reader: Engine) -> None:
    """And our own page does not point there."""
    asking = Asking(url, reader, bundle.OFF)
    answer = asking.get("/mindinsight/")
    assert 404 == answer.status_code
    assert answer.json is not None
    assert "--mindinsight-ui" in answer.json["detail"]
    assert 404 == asking.get("/mindinsight/static/js/app.js").status_code
    assert b"/mindinsight/" not in asking.get("/").data
