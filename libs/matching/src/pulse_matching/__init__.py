"""Topic filters, payload filters, CEL, and the reference matcher."""
