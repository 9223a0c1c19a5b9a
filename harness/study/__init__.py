"""A study file: its model, its arms and contrasts, and every mistake with its place."""
