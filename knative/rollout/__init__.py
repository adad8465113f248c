"""Walks a new revision to all of the traffic while it proves itself, or removes it."""
