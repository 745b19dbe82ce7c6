"""PostgreSQL as an enforcer: TLS by its own hand, a role a service, and what each may touch."""
