"""Restore photos ruined by motion blur."""

__version__ = "0.1.0"
