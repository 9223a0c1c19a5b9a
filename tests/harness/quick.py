"""Hypothesis settings of these tests: few examples, and no complaint about a busy machine."""

from hypothesis import HealthCheck, settings

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
