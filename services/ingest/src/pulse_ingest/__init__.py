"""Takes telemetry over HTTP and MQTT; commits it; stores it."""
