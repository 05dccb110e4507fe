"""Headers that keep a browser from doing harm: one set for pages and JSON, one policy for what users wrote."""

from __future__ import annotations

SAFE = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""On every answer, errors of the server included."""

PAYLOAD_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of bytes that came from a file: nothing in them runs, loads or frames, whatever they are."""
