"""Data: sources, sizes, task mixture."""
