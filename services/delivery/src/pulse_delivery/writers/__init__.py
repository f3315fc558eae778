"""The writers: dead letters and the delivery log, into PostgreSQL."""
