"""The sandbox's probes: they hold inside a sandbox, and break where there is none."""

SANDBOX_SABOTAGES: frozenset[str] = frozenset()
