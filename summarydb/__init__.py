"""What people import and run: the command line and, later, a client."""

from __future__ import annotations

__version__ = "0.1.0"
