"""Recipes: the schema, the only module that knows YAML, and which values are allowed."""
