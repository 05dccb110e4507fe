"""The web application: routes, the one shape of errors, headers. Nothing global; everything comes in by arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from flask import Flask, render_template, request
from markupsafe import Markup, escape
from sqlalchemy import Connection, Engine
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect
from werkzeug.wrappers import Response

from indexer import log
from indexer.config import Config
from indexer.db.engine import read_only, server_time
from indexer.db.health import alive as is_alive
from indexer.db.health import indexers
from indexer.errors import Deadline, Report, Retry, SummaryDBError, Wait
from indexer.payload import Kind
from indexer.shortage import shortage
from indexer.version import __version__
from webapi import (
    address,
    compare,
    explain,
    formats,
    graphs,
    headers,
    kinds,
    live,
    metrics,
    queries,
    respond,
    runs,
    sql,
    tables,
    v1,
)
from webapi.access import Access, is_loopback, knows
from webapi.accesslog import AccessLog
from webapi.errors import Malformed, Unknown
from webapi.looks import Looks
from webapi.mindinsight import answers as mindinsight
from webapi.mindinsight import routes as mindinsight_routes
from webapi.mindinsight import ui
from webapi.parameters import Parameter, Values, parse
from webapi.proxy import BehindProxy
from webapi.tally import ROUTE, Tally
from webapi.v1 import Ask, Route, Site

RETRY_SECONDS = 1
TALLY = "summarydb.tally"
"""What was asked for, among Flask's extensions."""
METHODS = ["GET"]  # Flask adds HEAD and OPTIONS


def create_app(
    config: Config, engine: Engine, *, ask: Ask | None = None, waiting: Callable[[], str | None] | None = None
) -> Flask:
    """Return the WSGI application over `engine` (indexer.db.engine.open_reader: it cannot write).

    `ask` takes wishes to the indexer where there is one to ask, see webapi.v1.Ask; `waiting` tells what it waits for.
    """
    app = Flask("webapi")
    app.url_map.merge_slashes = False  # a train_id in the path may hold `./` and end in `/`
    app.jinja_env.filters |= {"when": when, "size": size, "coded": coded}
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    site = Site(config, engine, __version__, None if ask is None else Looks(ask), waiting=waiting or (lambda: None))
    _guard(app, config)
    _mount_api(app, site)
    mindinsight_routes.mount(app, site)
    with_mindinsight = ui.mount(app, config.mindinsight_ui)
    _mount_pages(app, site, mindinsight=with_mindinsight)
    tally = Tally()
    app.extensions[TALLY] = tally
    metrics.mount(app, site, tally, query_string)
    app.wsgi_app = tally.over(app.wsgi_app)  # type: ignore[method-assign,assignment]
    # Outside Flask, so that all in it, and the log, see the client's side of a proxy.
    app.wsgi_app = BehindProxy(app.wsgi_app, prefix=config.url_prefix, trusted=config.trusted_proxy)  # type: ignore[method-assign]
    if config.access_log:
        app.wsgi_app = AccessLog(app.wsgi_app)  # type: ignore[method-assign]
    return app


# Every request --------------------------------------------------------------------------------------------------------
def _guard(app: Flask, config: Config) -> None:
    """Check who asks, turn errors into problems, set headers, compress."""
    access = Access(config)

    @app.before_request
    def check() -> Response | None:
        if request.url_rule is not None:
            request.environ[ROUTE] = request.url_rule.rule
        refused = access.refuse(request)
        if refused is not None and mindinsight_routes.owns(request.path):
            return mindinsight.refused(refused)
        return refused

    @app.context_processor
    def addresses() -> dict[str, str]:
        return {"root": address.root()}

    @app.errorhandler(Exception)
    def problem(error: Exception) -> Response:
        if mindinsight_routes.owns(request.path):
            return mindinsight.failed(error, request.path)
        return _problem(error)

    @app.after_request
    def finish(response: Response) -> Response:
        access.share(request, response)
        if mindinsight_routes.owns(request.path):
            response.headers.update(mindinsight.HEADERS)
        for name, value in headers.SAFE.items():
            response.headers.setdefault(name, value)
        return respond.compress(response, request)


def _problem(error: Exception) -> Response:
    """Return what a request's error means to the one who asked."""
    match error:
        case Malformed():
            return respond.problem(400, str(error), parameter=error.parameter)
        case Unknown():
            return respond.problem(404, str(error), parameter=error.parameter)
        case Report():
            return respond.problem(400, str(error))
        case Deadline():
            return respond.problem(504, str(error))
        case Retry() | Wait():
            answer = respond.problem(503, str(error))
            answer.headers["Retry-After"] = str(RETRY_SECONDS)
            return answer
        case OSError() if (lack := shortage(error)) is not None:
            return _problem(Wait(lack))
        case SummaryDBError():  # an operator must act first
            log.get().error("refused", path=quote(request.path, safe="/"), why=str(error))
            return respond.problem(503, str(error))
        case RequestRedirect():
            return error.get_response()
        case HTTPException():
            status = error.code or 500
            detail = f"there is nothing at {request.path}; the API begins at {v1.BASE}/docs" if status == 404 else None
            answer = respond.problem(status, detail or error.description or error.name)
            for name, value in error.get_headers():
                if name.lower() in {"allow", "retry-after"}:
                    answer.headers[name] = value
            return answer
        case formats.MissingLibrary():
            return respond.problem(501, str(error))
    log.get().error("failed", path=quote(request.path, safe="/"), exc_info=error)
    return respond.problem(500, "a defect of this program: its log says more")


# The API --------------------------------------------------------------------------------------------------------------
def _mount_api(app: Flask, site: Site) -> None:
    def values_of(route: Route) -> Values:
        return parse(route.parameters, query_string())

    def answer(
        view: Callable[[Connection], v1.Answer],
        jobs: Callable[[Connection], Iterable[queries.JobRef]] | None = None,
        form: str = "json",
    ) -> Response:
        """Answer with `view` unless the client has the answer: then one row is read, and one of each of `jobs`.

        jobs: those that the answer derives from, and nothing else; what happens to others leaves it as it is.
        """
        with read_only(site.engine, seconds=site.config.query_seconds) as conn:
            state = queries.state(conn)
            facts: tuple[object, ...] = state if jobs is None else (state.database_id, *map(tuple, jobs(conn)))
            tag = respond.entity_tag(request, site.version, form, *facts)
            if request.if_none_match.contains_weak(tag):
                if isinstance(site.ask, Looks):
                    site.ask.again()
                return respond.tagged(Response(status=304), tag)
            made = view(conn)
        return respond.tagged(made if isinstance(made, Response) else respond.stream(made), tag)

    @app.get(v1.BASE + v1.HEALTH.path)
    def health() -> Response:
        values_of(v1.HEALTH)
        try:
            with read_only(site.engine, seconds=site.config.query_seconds) as conn:
                return v1.health(site, conn) if knows(request) else v1.well(conn)
        except (Retry, Wait) as e:
            if (why := site.waiting()) is None or not knows(request):
                raise
            raise Wait(f"{e}; the indexer waits: {why}") from e

    def mount(route: Route, view: Callable[[Site, Connection, Values], v1.Answer]) -> None:
        def call() -> Response:
            values = values_of(route)
            return answer(lambda conn: view(site, conn, values), v1.of_named_jobs(route, values))

        app.add_url_rule(v1.BASE + route.path, route.name, call, methods=METHODS)

    mount(v1.JOBS, v1.jobs)

    def mount_table(route: Route, view: Callable[[Site, Connection, Values], v1.Answer]) -> None:
        def call(form: str = "") -> Response:
            values = values_of(route)
            chosen = form or formats.accepted(request.accept_mimetypes)
            jobs = v1.of_named_jobs(route, values)
            if tables.plain(route, chosen, values):
                made = answer(lambda conn: view(site, conn, values), jobs, chosen)
            else:
                query = query_string()
                made = answer(lambda conn: tables.answer(site, conn, route, values, chosen, query), jobs, chosen)
            return by_accept(made)

        mount_formats(route, call, METHODS)

    def mount_formats(route: Route, call: Callable[..., Response], methods: list[str]) -> None:
        names = ",".join(formats.CONTENT_TYPES)
        app.add_url_rule(v1.BASE + route.path, route.name, call, methods=methods)
        suffixed = f"{v1.BASE}{route.path}.<any({names}):form>"
        app.add_url_rule(suffixed, f"{route.name}-form", call, methods=methods)

    mount_table(v1.SERIES, v1.series)
    mount_table(v1.POINTS, v1.points)
    for route, of_runs in {**runs.VIEWS, **compare.VIEWS}.items():
        mount_table(route, of_runs)

    slots = sql.Slots(site.config.threads)

    def run_sql(form: str = "") -> Response:
        chosen = form or formats.accepted(request.accept_mimetypes)
        return by_accept(sql.answer(site, slots, request, query_string(), chosen, local=is_loopback(site.config.host)))

    mount_formats(sql.ROUTE, run_sql, [*METHODS, "POST"])
    for route, kind in kinds.ROUTES.items():

        def of_kind(site: Site, conn: Connection, values: Values, kind: Kind = kind) -> Response:
            return kinds.page(site, conn, kind, values)

        mount(route, of_kind)

    @app.get(f"{v1.BASE}/blobs/<int:tag>/<int(signed=True):step>/<int:seq>/<int:ordinal>")
    def blob(tag: int, step: int, seq: int, ordinal: int) -> Response:
        """Answer with bytes, which only another payload at this address changes."""
        values = values_of(kinds.BLOB)
        with read_only(site.engine, seconds=site.config.query_seconds) as conn:
            kind, row = kinds.found(conn, (tag, step, seq, ordinal))
            site.tell_of_tag(conn, tag)
            mark = respond.entity_tag(request, site.version, row.digest, row.stored.content_type)
            if request.if_none_match.contains_weak(mark):
                return respond.unchanged(mark, headers.PAYLOAD_POLICY)
            return respond.tagged(kinds.content(conn, kind, row, values), mark)

    explain.mount(app, site, values_of, answer)
    live.mount(app, site, values_of, answer)
    for route, view in ((graphs.NODES, graphs.page), (graphs.NODE, graphs.detail)):

        def in_graph(tag: int, step: int, seq: int, route: Route = route, view: graphs.View = view) -> Response:
            values = values_of(route)
            with read_only(site.engine, seconds=site.config.query_seconds) as conn:
                row = graphs.found(conn, (tag, step, seq, 0))
                site.tell_of_tag(conn, tag)
                mark = respond.entity_tag(request, site.version, row.digest)
                if request.if_none_match.contains_weak(mark):
                    return respond.tagged(Response(status=304), mark)
                return respond.tagged(view(conn, row, values), mark)

        app.add_url_rule(graphs.rule(route), route.name, in_graph, methods=METHODS)

    @app.get(f"{v1.BASE}/jobs/<path:rest>")
    def job(rest: str) -> Response:
        named: list[tuple[queries.JobRef, str]] = []  # looked for once, by the first of both

        def jobs(conn: Connection) -> list[queries.JobRef]:
            named.append(v1.job_in_path(conn, rest))
            return [named[0][0]]

        return answer(lambda conn: v1.of_a_job(site, conn, *named[0], values_of), jobs)

    @app.get(f"{v1.BASE}/openapi.json")
    def document() -> Response:
        from webapi import openapi  # few ask for it, and not first

        parse((), query_string())
        made = Response(respond.encode(openapi.document(site.version)), content_type=respond.JSON)
        return unchanging(made)

    @app.get(f"{v1.BASE}/docs")
    def docs() -> Response:
        from webapi import answers, openapi

        parse((), query_string())
        return unchanging(html("docs.html", document=openapi.document(site.version), headers=answers.HEADERS))


def by_accept(response: Response) -> Response:
    """Say that the Accept header chose the format."""
    response.vary.add("Accept")
    return response


def unchanging(response: Response) -> Response:
    """Return a page that only another version of the program changes, or 304."""
    tag = respond.entity_tag(request, response.get_data())
    if request.if_none_match.contains_weak(tag):
        response = Response(status=304)
    return respond.tagged(response, tag)


def query_string() -> str:
    """Return the raw query string; bytes that are not UTF-8 as lone surrogates."""
    return request.query_string.decode("utf-8", "surrogateescape")


# Pages ----------------------------------------------------------------------------------------------------------------
def _mount_pages(app: Flask, site: Site, *, mindinsight: bool) -> None:
    known: tuple[Parameter, ...] = v1.JOB_FILTERS

    @app.get("/")
    def start() -> Response:
        values = parse(known, query_string())
        with read_only(site.engine, seconds=site.config.query_seconds) as conn:
            state = queries.state(conn)
            heard = v1.told(site, indexers(conn))
            indexer = heard[0] if heard else None
            alive = indexer is not None and is_alive(indexer, server_time(conn) or site.now())
            said = (indexer.state, indexer.message) if indexer is not None else None
            tag = respond.entity_tag(request, site.version, *state, alive, said)
            if request.if_none_match.contains_weak(tag):
                return respond.tagged(Response(status=304), tag)
            rows, following = v1.jobs_page(conn, values)
        more = None
        if following is not None:
            filters = {p.name: values.text(p.name) for p in known if p.name not in {"limit", "after"}}
            chosen = {name: value for name, value in filters.items() if value is not None}
            more = "?" + urlencode(
                chosen | {"limit": str(values.count("limit")), "after": following}, errors="surrogateescape"
            )
        page = html(
            "start.html",
            jobs=rows,
            more=more,
            q=values.text("q") or "",
            api=address.root() + v1.BASE,
            indexer=indexer,
            alive=alive,
            waiting=site.waiting(),
            mindinsight=f"{address.root()}{ui.PATH}/" if mindinsight else None,
            version=site.version,
        )
        return respond.tagged(page, tag)


def html(template: str, **facts: object) -> Response:
    """Return a rendered page; what is no Unicode becomes a question mark."""
    page = render_template(template, **facts)
    return Response(page.encode("utf-8", "replace"), content_type="text/html; charset=utf-8")


def coded(words: str) -> Markup:
    """Return words of ours with what is between backticks as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(words))))  # noqa: S704  # escaped before


def when(seconds: float | None) -> str:
    """Return a time as people read it, in UTC; empty where there is none."""
    if seconds is None:
        return ""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def size(count: int) -> str:
    """Return bytes as people read them."""
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} B" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
