"""From a System to the configuration of every Envoy: pure, no I/O, no clock, no randomness."""

from watertight.enforcers.envoy.compile.proxies import compile_envoy
from watertight.enforcers.envoy.compile.refusal import NotCompilable

__all__ = ["NotCompilable", "compile_envoy"]
