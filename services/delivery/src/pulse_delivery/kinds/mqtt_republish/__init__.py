"""The kind mqtt_republish: the original bytes to another topic of the tenant."""
