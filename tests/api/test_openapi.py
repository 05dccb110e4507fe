"""The document is valid, complete, and what the parser reads."""

from __future__ import annotations

import json
import re

from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from tests.api.conftest import Api
from webapi import openapi, queries, v1


def test_the_document_is_valid_openapi() -> None:
    """It validates against OpenAPI 3.1, with its defaults and references."""
    validate(json.loads(json.dumps(openapi.document("1.0"))), cls=OpenAPIV31SpecValidator)


def test_every_route_of_the_application_is_documented(api: Api) -> None:
    """Whatever is mounted below /api/v1 is in the document, but for the document itself and its page."""
    mounted = {
        re.sub(r"<(?:int|any)(?:\([^)]*\))?:(\w+)>", r"{\1}", rule.rule.removeprefix(v1.BASE))
        for rule in api.app.url_map.iter_rules()
        if rule.rule.startswith(v1.BASE)
    }
    documented = {re.sub(r"/jobs/\{id\}.*", "/jobs/<path:rest>", path) for path in api.document["paths"]}
    assert mounted - {"/openapi.json", "/docs"} == documented


def test_the_document_and_the_parser_agree(api: Api) -> None:
    """Bounds and choices in the document are those that a request meets."""
    for path, methods in api.document["paths"].items():
        if path.startswith(("/blobs/", "/graphs/")) or "{file}" in path:
            continue  # bytes, and what only sample data have; tests/api/test_{kinds,graphs,explain}.py ask for them
        if path == "/events":
            continue  # has no end; tests/api/test_live.py listens
        address = path.replace("{id}", "1").replace("{form}", "json")
        needed = {p["name"]: p["example"] for p in methods["get"]["parameters"] if p["in"] == "query" and p["required"]}
        for parameter in methods["get"]["parameters"]:
            if parameter["in"] == "path":
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
