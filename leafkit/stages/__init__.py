"""Stages: one module per command, each the method section of what it does."""
