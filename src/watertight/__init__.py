"""Watertight: every channel between services encrypted, authenticated, least-privilege, proven."""

__version__ = "0.1.0"
