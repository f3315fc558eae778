"""The siding: turns of troubled routes."""
