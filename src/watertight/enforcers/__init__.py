"""What enforces the declaration: one package a kind, all of the shape of ``contract.Enforcer``."""
