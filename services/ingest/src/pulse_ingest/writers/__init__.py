"""The writers: from the streams into PostgreSQL."""
