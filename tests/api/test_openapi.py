"""The document is valid, complete, and what the parser reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

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
    "/mindinsight/v1/mindinsight/": "the same below the prefix of its own server",
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


def test_refusals_are_as_documented(api: Api) -> None:
    """Without the token, with it in the address, under another name, with another method: status, headers, body."""
    locked = Api.over(replace(api.config, token="let-me-in"), api.reader, document=api.document)
    for status, sent, path in (
        (401, {}, "/jobs"),
        (401, {"Authorization": "Bearer other"}, "/jobs/1/tags"),
        (303, {}, "/series?token=let-me-in&limit=1"),
        (403, {"Host": "evil.example"}, "/points.csv"),
        (200, {"Authorization": "Bearer let-me-in"}, "/jobs"),
    ):
        for method in ("GET", "HEAD"):
            assert status == locked.request(v1.BASE + path, method, headers=sent).status_code, path
    for method in ("POST", "DELETE"):
        answer = api.request(v1.BASE + "/jobs", method)
        assert 405 == answer.status_code
        api.check_headers(api.document["paths"]["/jobs"]["get"]["responses"]["405"], answer)


def test_an_unknown_format_in_the_address_is_documented(api: Api) -> None:
    """What is none of the suffixes is 404, and the document says so."""
    for path in ("/points", "/series", "/compare", "/lineage", "/hparams", "/sql"):
        assert 404 == api.request(f"{v1.BASE}{path}.xlsx").status_code


def test_generators_can_tell_schemas_apart(api: Api) -> None:
    """Names of schemas differ in more than case and underscores, and each list says what is in it."""
    names = [re.sub("[^a-z0-9]", "", name.lower()) for name in api.document["components"]["schemas"]]
    assert sorted(set(names)) == sorted(names)

    def lists(value: object) -> Iterator[dict[str, object]]:
        if isinstance(value, dict):
            if value.get("type") in ("array", ["array", "null"]):
                yield value
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                yield from lists(inner)

    assert [] == [found for found in lists(api.document) if "items" not in found]


class Addresses(HTMLParser):
    """What a page loads or leads to, and what can be led to within it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.linked: set[str] = set()
        self.ids: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of an element."""
        for name, value in attrs:
            if name in {"src", "href", "action", "data", "srcset"}:
                (self.linked if tag == "a" else self.loaded).add(value or "")
            if name == "id":
                self.ids.add(value or "")


def test_the_page_needs_nothing_from_elsewhere(api: Api) -> None:
    """It loads what this server has, runs no script, and every link within it leads somewhere."""
    page = api.request(v1.BASE + "/docs").text
    found = Addresses(page)
    assert "<script" not in page
    assert "url(" not in page
    for address in found.loaded | {link for link in found.linked if not link.startswith("#")}:
        assert re.fullmatch("/[^/].*|/", address), address
        assert 200 == api.request(address).status_code
    assert {link.removeprefix("#") for link in found.linked if link.startswith("#")} <= found.ids
    assert "`" not in page


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
