"""Which routes a message matches: pure."""
