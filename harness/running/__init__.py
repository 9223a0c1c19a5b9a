"""Runs trials: the driver, its attempts and claims, and what is shown meanwhile."""
