"""The MQTT edge."""
