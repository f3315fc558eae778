"""How the router reaches the bus and the database."""
