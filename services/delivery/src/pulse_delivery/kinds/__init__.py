"""Destination kinds, each a leaf: a descriptor, and a sender where something is sent."""
