"""The control plane: reconciles the running system with the declaration; admin API."""
