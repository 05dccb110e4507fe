"""The document is valid, complete, and what the parser reads."""

from __future__ import annotations

import json
import re

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.api.conftest import Api
from webapi import answers, openapi, queries, v1


def test_the_document_is_valid_openapi() -> None:
    """It validates against OpenAPI 3.1, with its defaults and references."""
    validate(json.loads(json.dumps(openapi.document("1.0"))), cls=OpenAPIV31SpecValidator)


UNDOCUMENTED = {
    "/": "a page for people, no part of the API",
    "/static/<path:filename>": "style and scripts of pages",
    "/v1/mindinsight/": "MindInsight's own API, whose shapes are not ours to describe; a prefix",
}
"""What is mounted and not in the document, with the reason."""


def test_every_route_of_the_application_is_documented(api: Api) -> None:
    """Whatever is mounted is in the document, with its methods, or left out for a reason; and nothing else is in it."""
    mounted: dict[str, set[str]] = {}
    for rule in api.app.url_map.iter_rules():
        if any(rule.rule == left or (left[-1:] == "/" != left and rule.rule.startswith(left)) for left in UNDOCUMENTED):
            continue
        path = re.sub(r"<(?:int|any)(?:\([^)]*\))?:(\w+)>", r"{\1}", rule.rule.removeprefix(v1.BASE))
        mounted.setdefault(path, set()).update(rule.methods or ())
    documented: dict[str, set[str]] = {}
    for path, operations in api.document["paths"].items():
        methods = documented.setdefault(re.sub(r"/jobs/\{id\}.*", "/jobs/<path:rest>", path), {"OPTIONS"})
        methods.update(map(str.upper, operations))
    assert mounted == documented


def test_every_operation_says_all_of_its_answers(api: Api) -> None:
    """Success with its content, every status that any route can give, those of its own, each with its headers."""
    responses = api.document["components"]["responses"]
    for path, operations in api.document["paths"].items():
        for method, operation in operations.items():
            where = (method, path)
            found = {int(status) for status in operation["responses"]}
            assert {200, *answers.ALWAYS} <= found <= {200, *answers.STATUSES}, where
            assert ("{" in path) <= (404 in found), where
            assert (304 in found) == ("ETag" in operation["responses"]["200"]["headers"]), where
            assert ("content" in operation["responses"]["200"]) == (method != "head"), where
            assert all(p["schema"] for p in operation["parameters"]), where
            for status in sorted(found - {200}):
                answer = operation["responses"][str(status)]
                answer = responses[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
                assert ("content" in answer) == (method != "head" and status not in {303, 304}), (*where, status)
                needed = {401: "WWW-Authenticate", 405: "Allow", 429: "Retry-After", 503: "Retry-After"}
                assert needed.get(status, "Cache-Control") in answer["headers"], (*where, status)


def test_every_integer_and_text_of_a_request_has_its_bounds(api: Api) -> None:
    """No parameter leaves open how large or long it may be, but for headers, which are bounded as a whole."""
    for path, operations in api.document["paths"].items():
        for parameter in operations["get"]["parameters"]:
            schema = parameter["schema"]
            if schema["type"] == "array":
                assert schema["maxItems"] > 0, (path, parameter)
                schema = schema["items"]
            bounds = {"integer": {"minimum", "maximum"}, "string": {"maxLength", "enum", "pattern", "minLength"}}
            if parameter["in"] != "header":
                assert bounds[schema["type"]] & set(schema), (path, parameter)
            if schema["type"] == "integer":
                assert {"minimum", "maximum"} <= set(schema), (path, parameter)


def test_what_is_needed_is_said_to_be(samples: Api) -> None:
    """A parameter without which a request is refused is required in the document, with an example."""
    (item,) = samples.get("/explain", {"job": "./explain-saliency", "limit": 1})["items"]
    saliency = item["detail"].removeprefix(v1.BASE) + "/saliency"
    assert "label" == samples.get(saliency, status=400)["parameter"]
    assert "explainer" == samples.get(saliency, {"label": 0}, status=400)["parameter"]
    nodes = samples.get("/graphs", {"limit": 1})["items"][0]["nodes_url"].removeprefix(v1.BASE)
    assert "name" == samples.get(nodes.removesuffix("s"), status=400)["parameter"]
    assert "search" == samples.get(nodes, {"search": ""}, status=400)["parameter"]


def test_the_document_and_the_parser_agree(api: Api) -> None:
    """Bounds and choices in the document are those that a request meets."""
    for path, methods in api.document["paths"].items():
        if path.startswith(("/blobs/", "/graphs/")) or "{file}" in path:
            continue  # bytes, and what only sample data have; tests/api/test_{kinds,graphs,explain}.py ask for them
        if path in {"/events", "/docs"}:
            continue  # has no end, is no JSON; tests/api/test_live.py listens
        address = path.replace("{id}", "1").replace("{form}", "json")
        needed = {p["name"]: p["example"] for p in methods["get"]["parameters"] if p["in"] == "query" and p["required"]}
        for parameter in methods["get"]["parameters"]:
            if parameter["in"] != "query":
                continue
            name, schema = parameter["name"], parameter["schema"]
            schema = schema.get("items", schema)
            if schema["type"] == "integer":
                api.get(address, needed | {name: schema["minimum"]})
                assert name == api.get(address, needed | {name: schema["minimum"] - 1}, status=400)["parameter"]
                assert name == api.get(address, needed | {name: schema["maximum"] + 1}, status=400)["parameter"]
            elif "enum" in schema:
                for value in schema["enum"]:
                    api.get(address, needed | {name: value})
                assert name == api.get(address, needed | {name: "none of them"}, status=400)["parameter"]
            else:
                long = needed | {name: "x" * (schema["maxLength"] + 1)}
                assert name == api.get(address, long, status=400)["parameter"]
            if name in needed:
                without = {other: value for other, value in needed.items() if other != name}
                assert name == api.get(address, without, status=400)["parameter"]
            if "default" in schema:
                given = needed | {name: schema["default"]}
                assert api.get(address, needed).get("next") == api.get(address, given).get("next")


def test_rows_and_schemas_have_the_same_fields() -> None:
    """A column that is added to a row must be described."""
    schemas = openapi.SCHEMAS
    assert set(queries.JobRow._fields) == set(schemas["Job"]["properties"])
    assert set(queries.ShardRow._fields) == set(schemas["File"]["properties"])
    hidden = {"content", "display_name", "description"}
    assert set(queries.TagRow._fields) - hidden == set(schemas["Tag"]["properties"]) - {"metadata"}


def test_everything_has_a_description() -> None:
    """No field, parameter, route or answer goes without words."""

    def silent(value: object, where: str) -> list[str]:
        found: list[str] = []
        if isinstance(value, dict):
            if where.endswith("/properties"):
                found += [f"{where}/{name}" for name, field in value.items() if "description" not in field]
            for name, inner in value.items():
                found += silent(inner, f"{where}/{name}")
        if isinstance(value, list):
            for inner in value:
                found += silent(inner, where)
        return found

    document = openapi.document("1.0")
    assert [] == silent(document, "")
    for methods in document["paths"].values():
        assert methods["get"]["summary"]
        assert all(parameter["description"] for parameter in methods["get"]["parameters"])
