"""Where this program is for its client: below a prefix, behind a reverse proxy, or at the root."""

from __future__ import annotations

from flask import has_request_context, request


def root() -> str:
    """Return what stands before every path of ours in this request: "" or "/prefix"."""
    return request.script_root if has_request_context() else ""
