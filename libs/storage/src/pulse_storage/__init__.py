"""PostgreSQL: pool, migrations, and one module a table."""
