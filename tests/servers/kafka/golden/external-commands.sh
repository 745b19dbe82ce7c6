#!/bin/sh -e
# ADMIN='--bootstrap-server … --command-config …'
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Read --group billing. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Read --group billing --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Read --topic orders.placed --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Write --topic invoices --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Write --transactional-id billing. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:billing --operation Write --transactional-id billing --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:lobby --operation Describe --group lobby. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:lobby --operation Describe --group lobby --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:mailer --operation Read --group mailer. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:mailer --operation Read --group mailer --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:mailer --operation Read --topic invoices --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:orders --operation Read --group orders. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:orders --operation Read --group orders --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:orders --operation Read --topic customers --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:orders --operation Write --topic orders.placed --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:orders-eu --operation Describe --group orders-eu. --resource-pattern-type prefixed
kafka-acls.sh $ADMIN --add --allow-principal User:orders-eu --operation Describe --group orders-eu --resource-pattern-type literal
kafka-acls.sh $ADMIN --add --allow-principal User:orders-eu --operation Write --topic orders.placed --resource-pattern-type literal
kafka-configs.sh $ADMIN --alter --entity-type users --entity-name billing --add-config consumer_byte_rate=67108864,producer_byte_rate=8388608,request_percentage=300
kafka-configs.sh $ADMIN --alter --entity-type users --entity-name lobby --add-config consumer_byte_rate=67108864,producer_byte_rate=67108864,request_percentage=300
kafka-configs.sh $ADMIN --alter --entity-type users --entity-name mailer --add-config consumer_byte_rate=67108864,producer_byte_rate=67108864,request_percentage=300
kafka-configs.sh $ADMIN --alter --entity-type users --entity-name orders --add-config consumer_byte_rate=67108864,producer_byte_rate=67108864,request_percentage=300
kafka-configs.sh $ADMIN --alter --entity-type users --entity-name orders-eu --add-config consumer_byte_rate=67108864,producer_byte_rate=67108864,request_percentage=300
kafka-topics.sh $ADMIN --create --if-not-exists --topic customers --partitions 1 --config cleanup.policy=compact --config max.message.bytes=1048576 --config retention.bytes=-1 --config retention.ms=-1
kafka-topics.sh $ADMIN --create --if-not-exists --topic invoices --partitions 1 --config cleanup.policy=delete --config max.message.bytes=2097152 --config retention.bytes=1073741824 --config retention.ms=2592000000
kafka-topics.sh $ADMIN --create --if-not-exists --topic orders.placed --partitions 2 --config cleanup.policy=delete --config max.message.bytes=1048576 --config retention.bytes=67108864 --config retention.ms=3600000
