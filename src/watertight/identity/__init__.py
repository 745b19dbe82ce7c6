"""Who is who: the authority, SVIDs, trust bundles, and the doors at which workloads get them."""
