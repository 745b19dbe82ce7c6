#!/bin/sh
# The streams and consumers of events, made with the command `nats` as a user
# of the services' account who may publish to $JS.API.>. Each line prints an answer:
# look for "error" in it.
set -eu
nats request '$JS.API.STREAM.CREATE.ORDERS' '{"name": "ORDERS", "subjects": ["orders.>"], "retention": "limits", "storage": "file", "discard": "old", "duplicate_window": 120000000000, "max_bytes": 1073741824, "max_age": 0, "max_msgs": -1, "max_msg_size": -1, "max_consumers": -1, "max_msgs_per_subject": -1, "num_replicas": 1}'
nats request '$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.mailer' '{"stream_name": "ORDERS", "config": {"durable_name": "mailer", "ack_policy": "explicit", "ack_wait": 30000000000, "deliver_policy": "all", "replay_policy": "instant", "max_deliver": -1, "max_ack_pending": 1000, "max_waiting": 512, "num_replicas": 0}}'
nats request '$JS.API.STREAM.CREATE.AUDIT' '{"name": "AUDIT", "subjects": ["audit.*"], "retention": "limits", "storage": "file", "discard": "old", "duplicate_window": 120000000000, "max_bytes": 67108864, "max_age": 604800000000000, "max_msgs": -1, "max_msg_size": -1, "max_consumers": -1, "max_msgs_per_subject": -1, "num_replicas": 1}'
nats request '$JS.API.CONSUMER.DURABLE.CREATE.AUDIT.prices' '{"stream_name": "AUDIT", "config": {"durable_name": "prices", "ack_policy": "explicit", "ack_wait": 30000000000, "deliver_policy": "all", "replay_policy": "instant", "max_deliver": -1, "max_ack_pending": 1000, "max_waiting": 512, "num_replicas": 0}}'
