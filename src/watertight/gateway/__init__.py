"""What Envoy asks us at the edge: key sets now; quotas, contracts and access-log intake later."""
