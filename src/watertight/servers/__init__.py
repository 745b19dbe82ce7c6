"""Databases and brokers: what every kind has in common, and one folder a kind."""
