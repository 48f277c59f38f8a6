"""Persona-based synthetic training rows from a chat model behind an OpenAI-compatible endpoint."""
