"""The use cases behind the CLI; each takes an actor."""
