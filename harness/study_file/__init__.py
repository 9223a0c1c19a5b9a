"""Reads a study file: its shape, its levels and recipe, and every mistake with its place."""
