"""Measuring models: predictions, metrics, attacks, results."""
