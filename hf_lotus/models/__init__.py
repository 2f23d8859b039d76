"""Models: loading and checking them, and the ones that are built here."""
