"""Restore photos ruined by motion blur."""

from deblur_cli.system.version import __version__

__all__ = ["__version__"]
