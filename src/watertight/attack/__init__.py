"""The attacker's tools: bytes on a socket, TLS as an enemy speaks it, HTTP in wrong shapes.

Every enforcer's probes may use them; no enforcer's ``compile`` or ``apply`` may. Nothing here
verifies a server unless it is asked to: an attacker does not care whom it talks to.
"""
