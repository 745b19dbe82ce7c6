"""Mosquitto, an MQTT broker, held to what its channels grant."""
