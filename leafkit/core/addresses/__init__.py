"""Addresses that a user writes in one word."""
