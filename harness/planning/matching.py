"""A contrast resolved to arms, matched cell by cell on every factor that it does not name."""

from __future__ import annotations
