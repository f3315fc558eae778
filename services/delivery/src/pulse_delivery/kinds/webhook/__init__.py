"""The kind webhook: signed HTTP POST."""
