"""MindInsight's routes: which view answers which path. Their errors and headers are theirs, whatever the rest has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from werkzeug.wrappers import Response

from indexer.db.engine import read_only
from webapi.mindinsight import (
    answers,
    errors,
    explainer,
    graphs,
    histograms,
    images,
    importance,
    jobs,
    landscapes,
    lineage,
    scalars,
    tensors,
)
from webapi.mindinsight.answers import Answer
from webapi.mindinsight.context import Context
from webapi.mindinsight.kept import Trees
from webapi.mindinsight.lineages import Lineages
from webapi.mindinsight.parameters import Query
from webapi.v1 import Site

if TYPE_CHECKING:
    from flask import Flask, Request

PREFIX = "/v1/mindinsight"
PREFIXES = (PREFIX, f"/mindinsight{PREFIX}")
"""Where the routes are: at their own place, and where a page below /mindinsight/ looks for them."""

View = Callable[[Context, Connection, Query], Answer]
GET: Mapping[str, View] = {
    "/datavisual/train-jobs": jobs.train_jobs,
    "/datavisual/plugins": jobs.plugins,
    "/datavisual/single-job": jobs.single_job,
    "/datavisual/scalar/metadata": scalars.metadata,
    "/datavisual/scalars": scalars.scalars,
    "/datavisual/image/metadata": images.metadata,
    "/datavisual/image/single-image": images.single_image,
    "/datavisual/histograms": histograms.histograms,
    "/datavisual/tensors": tensors.tensors,
    "/datavisual/graphs/nodes": graphs.nodes,
    "/datavisual/graphs/nodes/names": graphs.names,
    "/datavisual/graphs/nodes/all": graphs.every_node,
    "/datavisual/graphs/single-node": graphs.single_node,
    "/datavisual/landscape/intervals": landscapes.intervals,
    "/datavisual/landscape/landscapes": landscapes.landscapes,
    "/datasets/dataset_graph": lineage.dataset_graph,
    "/explainer/explain-jobs": explainer.explain_jobs,
    "/explainer/explain-job": explainer.explain_job,
    "/explainer/evaluation": explainer.evaluation,
    "/explainer/image": explainer.image,
}
"""What is asked with a query string."""


def _put(context: Context, conn: Connection, request: Request) -> Answer:
    query = Query(request.query_string.decode("utf-8", "surrogateescape"))
    return lineage.annotate(context, conn, query, request.get_data(), request.content_type)


WRITTEN: Mapping[tuple[str, str], Callable[[Context, Connection, Request], Answer]] = {
    ("POST", "/datavisual/train-job-caches"): lambda context, conn, request: jobs.train_job_caches(
        context, conn, request.get_data(), request.content_type
    ),
    ("POST", "/lineagemgr/lineages"): lambda context, conn, request: lineage.table(context, conn, request.get_data()),
    ("PUT", "/lineagemgr/lineages"): _put,
    ("POST", "/optimizer/targets/search"): lambda context, conn, request: importance.targets(
        context, conn, request.get_data()
    ),
    ("POST", "/explainer/saliency"): lambda context, conn, request: explainer.saliency(
        context, conn, request.get_data()
    ),
    ("POST", "/explainer/hoc"): lambda context, conn, request: explainer.occlusion(context, conn, request.get_data()),
}
"""What is asked with a body."""
UI_CONFIG: Mapping[str, Any] = {"enable_debugger": False}


def owns(path: str) -> bool:
    """Tell whether a path is among these routes, or would be."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in PREFIXES)


def mount(app: Flask, site: Site) -> None:
    """Add the routes to the application."""
    from flask import request

    trees, kept = Trees(), Lineages()

    @app.before_request
    def check_method() -> Response | None:
        if owns(request.path) and request.method not in answers.METHODS:
            failure = errors.no_method()
            return answers.response(failure.body, failure.status)
        return None

    def answer(context: Context, view: Callable[[Connection], Answer]) -> Response:
        with read_only(context.site.engine, seconds=context.site.config.query_seconds) as conn:
            return answers.response(view(conn))

    for prefix in PREFIXES:
        # The page puts its own address before those of answers.
        context = Context(site, trees, kept, prefix, None if prefix == PREFIX else PREFIX)

        def add(
            method: str, path: str, view: Callable[[Context, Connection, Request], Answer], context: Context = context
        ) -> None:
            def call() -> Response:
                return answer(context, lambda conn: view(context, conn, request))

            app.add_url_rule(
                context.base + path,
                f"mindinsight {method} {context.base}{path}",
                call,
                methods=[method],
                provide_automatic_options=False,
            )

        for path, shown in GET.items():
            add("GET", path, _with_query(shown))
        for (method, path), written in WRITTEN.items():
            add(method, path, written)
        app.add_url_rule(
            f"{prefix}/ui-config",
            f"mindinsight ui-config {prefix}",
            lambda: answers.response(UI_CONFIG),
            methods=["GET"],
            provide_automatic_options=False,
        )


def _with_query(view: View) -> Callable[[Context, Connection, Request], Answer]:
    def call(context: Context, conn: Connection, request: Request) -> Answer:
        return view(context, conn, Query(request.query_string.decode("utf-8", "surrogateescape")))

    return call
