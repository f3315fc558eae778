"""Real servers for tests, scriptable receivers, fault tools, the manual clock."""
