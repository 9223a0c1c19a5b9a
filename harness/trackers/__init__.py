"""Trackers: projections of the journal into other systems."""
