"""Whole files, text, seeds and JSON documents: what is nobody's business in particular."""
