"""The demo: a fleet, its destinations, and a ledger that tells the truth about them."""
