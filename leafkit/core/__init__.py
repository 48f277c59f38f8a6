"""What everything stands on: errors, console, system, artifacts, the HTTP client of
OpenAI-compatible endpoints, truncation.
"""
