"""The version; pyproject.toml and everybody else read it here."""

__version__ = "0.1.0"
