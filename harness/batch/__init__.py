"""Batch systems: scripts that run a study where jobs wait in a queue."""
