"""The writer: what the router put on record, into PostgreSQL."""
