"""Recipes, and comparisons of many methods."""
