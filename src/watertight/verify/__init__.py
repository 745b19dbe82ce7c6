"""The prover: gathers probes, runs them against the running system, signs what was observed."""
