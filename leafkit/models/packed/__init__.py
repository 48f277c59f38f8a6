"""Encoders without padding: the tokens of all texts in one matrix."""
