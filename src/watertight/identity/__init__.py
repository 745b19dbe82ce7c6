"""Who is who: the authority, SVIDs, trust bundles, and the sockets at which workloads get them."""
