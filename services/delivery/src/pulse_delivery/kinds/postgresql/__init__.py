"""The kind postgresql: delivered once stored."""
