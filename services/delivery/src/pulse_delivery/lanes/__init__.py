"""The fast lane: one attempt a message, no lane waiting for another."""
