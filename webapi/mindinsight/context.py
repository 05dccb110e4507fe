"""What all requests of MindInsight's routes share."""

from __future__ import annotations

from dataclasses import dataclass

from webapi.mindinsight.kept import Trees
from webapi.mindinsight.lineages import Lineages
from webapi.v1 import Site


@dataclass(frozen=True, slots=True)
class Context:
    """Nothing of it changes but what is kept."""

    site: Site
    trees: Trees
    lineages: Lineages
    base: str  # of the routes
    linked: str | None = None  # for the page: what addresses in answers begin with; None: where the routes are
