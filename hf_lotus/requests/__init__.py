"""A queue of deletion requests, and serving it."""
