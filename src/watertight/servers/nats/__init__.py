"""NATS and JetStream: subjects, streams and inboxes, granted by SPIFFE ID."""
