"""Trackers: projections of the journal into MLflow."""
