"""MariaDB as an enforcer: an account for each service, and which tables it may use how."""
