"""Pauses the garbage collector while many objects are made that all stay alive.

A plan of 10,000 arms is some 10^5 long-lived objects without cycles; the collector walks them again
and again and doubles the time that planning takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Pause collection; it is on again afterwards if it was on before."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
