"""RabbitMQ as an enforcer: virtual host, queues, exchanges, and who may do what with each."""
