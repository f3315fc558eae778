"""The fixtures that every test may ask for."""
