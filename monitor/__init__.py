"""Audits in, what changed out: when a gap opened, whether it still stands, and who was told."""
