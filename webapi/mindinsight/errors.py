"""MindInsight's errors: a code, a text, nearly always HTTP 400.

Codes and texts: MindInsight 2.3.1. Clients switch on `error_code`; texts are for people.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from indexer.errors import Report

_BASE = 0x50540000
_WHITE = re.compile(r"\s+")

SYSTEM = _BASE
NO_JOB = _BASE + 0x5005
LANDSCAPE_NOT_FOUND = _BASE + 0x5017
PARAMETER_VALUE = _BASE + 0x0002
PLUGINS = ("image", "scalar", "graph", "optimized_graph", "histogram", "tensor", "loss_landscape")
"""In the order in which answers have them."""

UNKNOWN_TAG = "Invalid parameter value. Can not find any data in this train job by given tag."
NOT_IN_CACHE = "Can not find the given train job in cache."
NOT_LISTED = "Can not find the train job in data manager."


@dataclass(eq=False)
class Failure(Report):
    """What MindInsight answers in place of data."""

    code: int
    text: str
    status: int = 400

    def __str__(self) -> str:
        return self.text

    @property
    def body(self) -> dict[str, str]:
        """The answer's body."""
        return {"error_code": f"{self.code:08X}", "error_msg": _WHITE.sub(" ", self.text).strip()}


def system(status: int = 500, text: str = "System error.") -> Failure:
    """Something that is not the client's fault."""
    return Failure(SYSTEM, text, status)


def wrong_type(name: str, expected: str) -> Failure:
    """A parameter of another type than it has."""
    return Failure(_BASE + 0x0001, f"Invalid parameter type. '{name}' expect {expected} type.")


def wrong_value(detail: str) -> Failure:
    """A parameter with a value that it cannot have."""
    return Failure(PARAMETER_VALUE, f"Invalid parameter value. {detail}")


def missing(name: str) -> Failure:
    """A parameter that is needed."""
    return Failure(_BASE + 0x0003, f"Param missing. '{name}' is required.")


def forbidden(detail: str, status: int = 400) -> Failure:
    """A file or an action that is not for the client."""
    return Failure(_BASE + 0x0008, f"File or dir access failed. Detail: {detail}", status)


def no_route() -> Failure:
    """No such path."""
    return Failure(_BASE + 0x5001, "404 Not Found.", 404)


def no_method() -> Failure:
    """A method that the path does not take."""
    return Failure(_BASE + 0x5002, "405 Method Not Allowed.", 405)


def page_reads_only() -> Failure:
    """A tag or remark from the page, which shows it as stored unless the code is one that it has words for."""
    return Failure(_BASE + 0x5002, "405 Method Not Allowed. Detail: read-only; use summarydb annotate.", 403)


def no_job(detail: str | None = None) -> Failure:
    """No such job, or one that is not loaded."""
    return Failure(NO_JOB, "Train job is not exist." + (f" Detail: {detail}" if detail is not None else ""))


def loading() -> Failure:
    """Nothing was ever indexed."""
    return Failure(_BASE + 0x5007, "Data is loading. Detail: the first look at the directory has not ended.")


def no_node(name: str) -> Failure:
    """A node or scope that a graph does not have."""
    return Failure(_BASE + 0x5009, f"Can not find node in graph by the given node name. node name: {name}.")


def no_plugin() -> Failure:
    """A name that is none of the seven plugins."""
    return Failure(_BASE + 0x500B, f"Plugin is not available. Detail: 'plugin_name' only can be one of {list(PLUGINS)}")


def no_graph() -> Failure:
    """A job without graphs, or without this one."""
    return Failure(_BASE + 0x500C, "Graph is not exist.")


def no_image(detail: str) -> Failure:
    """No such image."""
    return Failure(_BASE + 0x500D, f"Image is not exist. Detail: {detail}")


def no_scalar() -> Failure:
    """No such scalar tag."""
    return Failure(_BASE + 0x500E, f"Scalar value is not exist. Detail: {UNKNOWN_TAG}")


def no_histogram() -> Failure:
    """No such histogram tag."""
    return Failure(_BASE + 0x500F, f"Histogram value is not exist. Detail: {UNKNOWN_TAG}")


def null_byte(train_id: str) -> Failure:
    """NUL in a train id."""
    shown = train_id.replace("\0", " ")
    return Failure(
        _BASE + 0x5011, f"Query string contains null byte error. Detail: train job id: {shown} contains null byte."
    )


def no_tensor(detail: str) -> Failure:
    """No such tensor tag."""
    return Failure(_BASE + 0x5012, f"Tensor value is not exist. Detail: {detail}")


def too_much(detail: str) -> Failure:
    """An answer that would be too long."""
    return Failure(_BASE + 0x5013, f"Response data exceed max value. Detail: {detail}")


def no_step(step: int) -> Failure:
    """A step that a tensor does not have."""
    return Failure(_BASE + 0x5014, f"Tensor data not in cache. Detail: this step: {step} data may has been dropped.")


def too_large(step: int) -> Failure:
    """A tensor of too many elements."""
    return Failure(_BASE + 0x5016, f"Tensor is too large to show on UI. Detail: Step: {step}")


def wrong_annotation(text: str) -> Failure:
    """A tag or remark that cannot be right."""
    return Failure(_BASE + 0x2081, f"ValueError. {text}")


def wrong_condition(detail: str) -> Failure:
    """A search condition that cannot be right."""
    return Failure(_BASE + 0x2218, f"Search_condition param error: {detail}")
