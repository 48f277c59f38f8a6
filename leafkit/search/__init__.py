"""Embedding texts, searching them, and measuring how well that works."""
