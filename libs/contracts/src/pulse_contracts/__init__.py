"""Names, subjects, envelopes and outcomes that the services agree on."""
