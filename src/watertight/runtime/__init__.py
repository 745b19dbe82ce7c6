"""This host: processes, network namespaces, start order, supervision."""
