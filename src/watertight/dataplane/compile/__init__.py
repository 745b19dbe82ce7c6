"""From a System to the configuration of every Envoy: pure, no I/O, no clock, no randomness."""

from watertight.dataplane.compile.proxies import compile_envoy
from watertight.dataplane.compile.refusal import NotCompilable

__all__ = ["NotCompilable", "compile_envoy"]
