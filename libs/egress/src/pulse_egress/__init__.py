"""Where Pulse may connect to, and the HTTP engine that obeys."""
