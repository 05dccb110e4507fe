"""Lineage: a table of trainings that is filtered, sorted and paged; the data a training used."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import cmp_to_key
from typing import Any

from sqlalchemy import Connection

from webapi.mindinsight import catalogue, errors, lineages
from webapi.mindinsight.context import Context
from webapi.mindinsight.errors import wrong_annotation, wrong_condition
from webapi.mindinsight.lineages import FIELDS, Found
from webapi.mindinsight.parameters import Query, body, with_type

_OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "lt": operator.lt,
    "gt": operator.gt,
    "le": operator.le,
    "ge": operator.ge,
    "in": lambda value, among: value in among,
    "not_in": lambda value, among: value not in among,
}
_ORDERS = frozenset({"lt", "gt", "le", "ge"})
_CHOICES = frozenset({"in", "not_in"})
_TEXT_OPERATORS = frozenset({"eq", "in", "not_in"})
_TEXTS = frozenset({"summary_dir", "loss_function", "optimizer", "network", "dataset_mark"}) | {
    "train_dataset_path",
    "test_dataset_path",
}
_COUNTS = frozenset({"train_dataset_count", "test_dataset_count", "epoch", "batch_size", "device_num", "model_size"})
_NUMBERS = frozenset({"learning_rate", "loss"})
_ALL_FIELDS = ("summary_dir", *FIELDS, "dataset_mark")
_METRIC, _USER = "metric/", "user_defined/"
_TYPES = ("dataset", "model")
_PAGING = ("limit", "offset", "sorted_name", "sorted_type")
_INT64 = 2**63
MOST_LIMIT, MOST_OFFSET = 100, 100_000
MOST_REMARK = 128
MOST_TAG = 10


# The table ------------------------------------------------------------------------------------------------------------
def table(context: Context, conn: Connection, data: bytes) -> Mapping[str, Any]:
    """Show the lineages that fit a condition."""
    condition, page, count = _chosen(context, conn, data)
    types = _types(condition.get("lineage_type"))
    return {"customized": _customized(page), "object": [_item(one, types) for one in page], "count": count}


def selected(context: Context, conn: Connection, data: bytes) -> list[Found]:
    """Return the lineages that fit a condition."""
    return _chosen(context, conn, data)[1]


def _chosen(context: Context, conn: Connection, data: bytes) -> tuple[Mapping[str, Any], list[Found], int]:
    """Return a condition, the page of lineages that it asks for, and how many fit it."""
    condition = body(data)
    condition = {} if condition is None else condition
    check(condition)
    found = [
        one
        for one in lineages.every(context.lineages, conn, catalogue.root(conn))
        if all(_fits(one, key, wanted) for key, wanted in condition.items() if key not in _PAGING)
    ]
    name = condition.get("sorted_name")
    if name is not None:
        order = cmp_to_key(_compared)
        found.sort(key=lambda one: order(_sorted_by(one, name)), reverse=condition.get("sorted_type") == "descending")
    page = found
    if "limit" in condition or "offset" in condition:
        limit, offset = condition.get("limit", 10), condition.get("offset", 0)
        page = found[offset * limit : (offset + 1) * limit]
    return condition, page, len(found)


def _item(one: Found, types: frozenset[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"summary_dir": one.train_id} if types else {}
    if "model" in types:
        model = one.lineage.model()
        named = {name: model.pop(name) for name in ("metric", "user_defined")}
        shown["model_lineage"] = {**model, "dataset_mark": one.mark, **named}
    if "dataset" in types:
        shown["dataset_graph"] = one.lineage.dataset_graph
    return {**shown, "added_info": dict(one.annotation)}


def _customized(page: list[Found]) -> dict[str, Any]:
    """Return what kinds of values metrics and user-defined fields of a page have."""
    seen: dict[str, set[str]] = {}
    for one in page:
        for prefix, values in ((_METRIC, one.lineage.metric), (_USER, one.lineage.user_defined)):
            for key, value in values.items():
                seen.setdefault(prefix + key, set()).add(_kind(value))
    return {
        label: {"label": label, "required": label.startswith(_METRIC), "type": _common(kinds)}
        for label, kinds in seen.items()
    }


def _kind(value: Any) -> str:
    """Return the name of a type; a text may stand for a float that is not finite."""
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return "float"
    return type(value).__name__


def _common(kinds: set[str]) -> str:
    if len(kinds) == 1 and kinds != {"NoneType"}:
        return next(iter(kinds))
    return "float" if kinds == {"int", "float"} else "mixed"


# Conditions -----------------------------------------------------------------------------------------------------------
def check(condition: Any) -> None:
    """Refuse a condition that cannot be right."""
    if not isinstance(condition, dict):
        raise wrong_condition("TypeError. Invalid search_condition type, it should be dict.")
    for name, low, high, bounds in (
        ("limit", 1, MOST_LIMIT, f"0 < limit <= {MOST_LIMIT}"),
        ("offset", 0, MOST_OFFSET, f"0 <= offset <= {MOST_OFFSET}"),
    ):
        if name in condition:
            value = condition[name]
            if isinstance(value, bool) or not isinstance(value, int):
                raise wrong_condition(f"TypeError. The {name} must be int.")
            if not low <= value <= high:
                raise wrong_condition(f"Invalid input {name}. {bounds}")
    if "sorted_name" in condition and not _is_field(condition["sorted_name"], "tag"):
        raise wrong_condition(
            f"ValueError. The sorted_name must be in {[*_ALL_FIELDS, 'tag']} or start with metric/ or user_defined/."
        )
    if "sorted_type" in condition:
        if "sorted_name" not in condition:
            raise wrong_condition("ValueError. The sorted_name must exist when sorted_type exists.")
        if condition["sorted_type"] not in ("ascending", "descending", None):
            raise wrong_condition("ValueError. The sorted_type must be ascending or descending.")
    for key, wanted in condition.items():
        if key not in _PAGING:
            _check_field(key, wanted)


def _is_field(name: Any, *more: str) -> bool:
    if not isinstance(name, str):
        return False
    custom = any(name.startswith(prefix) and name != prefix for prefix in (_METRIC, _USER))
    return name in _ALL_FIELDS or name in more or custom


def _check_field(key: str, wanted: Any) -> None:
    if key == "lineage_type":
        _check_type(wanted)
        return
    if not _is_field(key):
        raise wrong_condition("ValueError. The search attribute not supported.")
    if not isinstance(wanted, dict):
        raise wrong_condition(f"TypeError. The search_condition element {key} should be dict.")
    for name, value in wanted.items():
        if name not in _OPERATORS:
            raise wrong_condition(f"ValueError. The compare condition should be in {tuple(_OPERATORS)}.")
        if key.startswith(_USER):
            continue
        if key in _TEXTS and name not in _TEXT_OPERATORS:
            raise wrong_condition(f"The parameter {key} is invalid. Its operation should be `eq`, `in` or `not_in`.")
        number = key in _NUMBERS or key.startswith(_METRIC)
        if name == "in" or (name == "not_in" and not number):
            if not isinstance(value, list):
                raise wrong_condition(
                    f"The parameter {key} is invalid. The value of `{name}` operation must be list or tuple."
                )
        elif key in _TEXTS and not isinstance(value, str):
            raise wrong_condition(
                f"The parameter {key} is invalid. It should be a dict and the value should be a string."
            )
        elif key in _COUNTS and not (_whole(value) and 0 <= value < _INT64):
            raise wrong_condition(f"The parameter {key} is invalid. It should be an integer between 0 and 2^63 - 1.")
        elif number and not (_whole(value) or isinstance(value, float)):
            raise wrong_condition(f"The parameter {key} is invalid. The value should be a float or an integer.")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_type(wanted: Any) -> None:
    if not isinstance(wanted, dict):
        raise wrong_condition("The parameter lineage_type is invalid. It should be 'dataset' or 'model'.")
    for name, value in wanted.items():
        if name not in {"eq", "in"}:
            raise wrong_condition("The parameter lineage_type is invalid. Its operation should be `eq` or `in`.")
        if name == "in" and not isinstance(value, list):
            raise wrong_condition(
                "The parameter lineage_type is invalid. The value of `in` operation must be list or tuple."
            )
        if any(one not in _TYPES for one in (value if name == "in" else [value])):
            raise wrong_condition("The parameter lineage_type is invalid. It should be 'dataset' or 'model'.")


def _types(wanted: Mapping[str, Any] | None) -> frozenset[str]:
    types = frozenset(_TYPES)
    for name, value in (wanted or {}).items():
        types &= frozenset(value if name == "in" else [value])
    return types


# Matching and sorting -------------------------------------------------------------------------------------------------
def _value(one: Found, key: str) -> Any:
    if key.startswith(_METRIC):
        return one.lineage.metric.get(key.removeprefix(_METRIC))
    if key.startswith(_USER):
        return one.lineage.user_defined.get(key.removeprefix(_USER))
    own = {"summary_dir": one.train_id, "dataset_mark": one.mark}
    return own[key] if key in own else one.lineage.fields.get(key)


def _fits(one: Found, key: str, wanted: Mapping[str, Any]) -> bool:
    if key == "lineage_type":
        return True
    value = _value(one, key)
    return all(_holds(name, value, limit) for name, limit in wanted.items())


def _holds(name: str, value: Any, limit: Any) -> bool:
    if name in _ORDERS and (value is None or limit is None):
        return False
    try:
        return bool(_OPERATORS[name](value, limit))
    except TypeError:
        return False


def _sorted_by(one: Found, name: str) -> Any:
    return one.annotation.get("tag") if name == "tag" else _value(one, name)


def _compared(a: Any, b: Any) -> int:
    """Tell which value comes first: null before all, what cannot be compared by the name of its type."""
    if a is None or b is None:
        return (a is not None) - (b is not None)
    try:
        return int(a > b) - int(a < b)
    except TypeError:
        kinds = type(a).__name__, type(b).__name__
        return (kinds[0] > kinds[1]) - (kinds[0] < kinds[1])


# Annotations ----------------------------------------------------------------------------------------------------------
def annotate(
    context: Context, conn: Connection, query: Query, data: bytes, content_type: str | None
) -> Mapping[str, Any]:
    """Refuse to write a tag or remark: what is wrong with it first, else that nothing is written here."""
    try:
        given = with_type(data, content_type)
    except ValueError:
        raise errors.system(400, "System error or http error.") from None
    if not isinstance(given, dict):
        raise errors.wrong_value("The request body should be a dict.")
    train_id = query.text("train_id")
    if train_id is None:
        raise errors.missing("train_id")
    _check_id(train_id)
    if given.keys() - {"tag", "remark"}:
        raise wrong_annotation("Keys of added_info must be in ['tag', 'remark'].")
    if "tag" in given:
        if not isinstance(given["tag"], int):
            raise wrong_annotation("'tag' must be int.")
        if not 0 <= given["tag"] <= MOST_TAG:
            raise wrong_annotation(f"The tag should in [0, {MOST_TAG}].")
    if "remark" in given:
        if not isinstance(given["remark"], str):
            raise wrong_annotation("'remark' must be str.")
        if len(given["remark"]) > MOST_REMARK:
            raise wrong_annotation(f"The length of remark should in [0, {MOST_REMARK}].")
    job = catalogue.train_job(conn, catalogue.root(conn), train_id)
    if job is None:
        raise errors.no_job(train_id)
    if job.id not in context.lineages.of(conn, {job.id: job.revision}):
        raise errors.wrong_value(f"Cannot update the lineage for tran job {train_id}, because it does not exist.")
    if context.linked is not None:
        raise errors.page_reads_only()
    raise errors.forbidden("read-only; use summarydb annotate.", 403)


def _check_id(train_id: str) -> None:
    if not train_id.startswith("./") or train_id.count("/") != 1:
        raise errors.wrong_value("Summary dir should be relative path starting with './'.")


# Dataset graphs -------------------------------------------------------------------------------------------------------
def dataset_graph(context: Context, conn: Connection, query: Query) -> Mapping[str, Any]:
    """Show where the data of a training came from."""
    train_id = query.text("train_id")
    if train_id is None:
        raise errors.missing("train_id")
    _check_id(train_id)
    job = catalogue.train_job(conn, catalogue.root(conn), train_id)
    if job is None:
        return {}
    found = context.lineages.of(conn, {job.id: job.revision}).get(job.id)
    if found is None or not found.dataset_graph:
        return {}
    return {"dataset_graph": found.dataset_graph, "summary_dir": train_id}
