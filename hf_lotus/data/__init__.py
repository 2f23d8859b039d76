"""From what the user has to the sets of a run: columns, splits, duplicates, samples made ready."""
