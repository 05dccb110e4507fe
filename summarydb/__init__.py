"""What people import and run: the command line and, later, a client."""

from __future__ import annotations

from indexer.version import __version__ as __version__
