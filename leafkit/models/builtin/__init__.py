"""Models that are found, not given: built-in ones, and those of the hub."""
