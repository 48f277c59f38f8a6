"""Stores that people have, filled with a teacher's vectors and asked with a student's: one module
for each kind, all of them behind ``leafkit.stores.store.Store``.
"""
