"""Envoy: every HTTP, gRPC and TCP channel between services, and the gateway."""
