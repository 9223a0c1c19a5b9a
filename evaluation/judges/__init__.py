"""Judges: networks that read the truth back where no renderer knows it."""
