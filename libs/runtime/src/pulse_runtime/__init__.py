"""Settings, lifecycle, health, clock, metrics, tracing and logging."""
