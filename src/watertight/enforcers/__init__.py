"""What an enforcer is, what one of a server is besides, and which are installed."""
