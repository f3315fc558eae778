"""How the domain reaches the bus and the database."""
