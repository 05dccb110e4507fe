"""MindInsight's own page, where its front-end is at hand: files of one directory, below one path, with one policy.

The page looks for the API below its own address, so it stands where the routes answer a second time.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from flask import redirect, request
from werkzeug.exceptions import NotFound
from werkzeug.security import safe_join
from werkzeug.wrappers import Response

from webapi import address, respond
from webapi.mindinsight import bundle

if TYPE_CHECKING:
    from flask import Flask

PATH = "/mindinsight"
POLICY = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none';"
    " script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:;"
    " font-src 'self' data:; worker-src 'self' blob:"
)
"""Of these files alone: templates are compiled in the browser, charts set styles, graphs are laid out by a worker."""
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".eot": "application/vnd.ms-fontobject",
    ".gif": "image/gif",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ttf": "font/ttf",
    ".wasm": "application/wasm",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
"""What a front-end is made of; nothing else is sent. Ours, for a system's own table may say anything."""
WASM = "graphvizlib.wasm"
"""What lays out graphs. The page asks for it beside itself; it lies among the scripts."""
ABSENT = (
    "MindInsight's page is not at hand: `pip install --no-deps mindinsight` beside summarydb, or start it with"
    " --mindinsight-ui PATH"
)


def mount(app: Flask, setting: str) -> bool:
    """Add the page's paths to the application; tell whether there is a page.

    setting: Config.mindinsight_ui.
    """
    root = bundle.directory(setting)

    def enter() -> Response:
        """Lead to the page's directory, below which it looks for everything."""
        query = request.query_string.decode("latin-1")
        answer = redirect(f"{address.root()}{PATH}/" + (f"?{query}" if query else ""), 308)
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def page() -> Response:
        if root is None:
            return respond.problem(404, ABSENT)
        return _file(root, bundle.INDEX)

    def part(name: str) -> Response:
        if root is None:
            raise NotFound
        return _file(root / bundle.STATIC, name)

    app.add_url_rule(PATH, "mindinsight enter", enter)
    app.add_url_rule(f"{PATH}/", "mindinsight page", page)
    app.add_url_rule(f"{PATH}/{WASM}", "mindinsight wasm", lambda: part(f"js/{WASM}"))
    app.add_url_rule(f"{PATH}/{bundle.STATIC}/<path:name>", "mindinsight static", part)
    return root is not None


def _file(root: Path, name: str) -> Response:
    """Return a file below a directory. NotFound for anything else, also where a link leads out."""
    joined = safe_join(str(root), name)
    kind = TYPES.get(Path(name).suffix.lower())
    if joined is None or kind is None or "\0" in joined:
        raise NotFound
    found = Path(os.path.realpath(joined))
    if not found.is_relative_to(os.path.realpath(root)):
        raise NotFound
    try:
        about = found.stat()
    except OSError:  # not there, or no name that could be
        raise NotFound from None
    if not stat.S_ISREG(about.st_mode):
        raise NotFound
    tag = respond.entity_tag(request, str(found), about.st_mtime_ns, about.st_size)
    if request.if_none_match.contains_weak(tag):
        return respond.unchanged(tag, POLICY)
    answer = Response(found.read_bytes(), content_type=kind)  # the largest has a megabyte or two
    answer.headers["Content-Security-Policy"] = POLICY
    return respond.tagged(answer, tag)
