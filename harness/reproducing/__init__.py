"""A recorded trial, and recorded numbers beside new ones."""
