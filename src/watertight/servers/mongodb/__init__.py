"""MongoDB: FerretDB on a PostgreSQL of its own behind a guard, and mongod that others run."""
