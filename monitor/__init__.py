"""Audits in, what changed out: when a gap opened, and whether it still stands."""
