"""Matches each tenant's routes and emits delivery subjects."""
