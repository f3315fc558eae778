"""The pulse command."""
