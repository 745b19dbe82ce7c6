"""Ports for the servers of tests."""

from watertight.testing.ports import free_port

__all__ = ["free_port"]
