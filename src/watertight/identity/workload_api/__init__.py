"""The SPIFFE Workload API: how software that nobody here wrote learns who it is."""
