"""Brings matches to their destinations; dead letters for what cannot be delivered."""
