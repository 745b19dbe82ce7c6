"""Kafka, in KRaft mode: one node, held to topics, access control and quotas."""
