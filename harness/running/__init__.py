"""Runs trials: the driver, what is shown meanwhile, how studies stand, and how a run ends."""
