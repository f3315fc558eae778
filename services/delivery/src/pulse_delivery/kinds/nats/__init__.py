"""The kind nats: a subject in the tenant's export space."""
