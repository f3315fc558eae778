"""JetStream: connection, provisioning, atomic-batch publisher, pull loop, siding, reaper."""
