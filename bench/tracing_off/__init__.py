"""What tracing costs a message while it is off."""
