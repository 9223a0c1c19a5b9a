"""The pretended card is known before any test trains: autograd counts devices once a process."""

from __future__ import annotations

from tests.benchmarks.pretend_card import registered

registered()
