"""What is accepted, and as what: pure."""
