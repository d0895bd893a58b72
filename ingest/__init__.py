"""MQTT in: the subscriber, the payload formats, the columns."""
