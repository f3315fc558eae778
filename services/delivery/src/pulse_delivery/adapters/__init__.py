"""How delivery reaches the bus and the database."""
