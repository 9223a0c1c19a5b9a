"""Pauses the garbage collector while many objects are made that all stay alive.

A plan of 10,000 arms is some 10^5 long-lived objects without cycles; the collector walks them again
and again and doubles the time that planning takes.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

RARELY = (50_000, 20, 20)
"""Thresholds of the three generations while a study runs."""


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


@contextmanager
def relaxed() -> Iterator[None]:
    """Collect rarely in a driver whose trials train elsewhere; `settle` spares what imports left.

    Ray and MLflow leave a million objects that live to the end; walking them costs a driver of many
    short trials a twentieth of its time. Not for a process that trains: cycles may hold tensors.
    """
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def settle() -> None:
    """Inside `relaxed`, take what is alive now as staying: the collector no longer walks it."""
    if gc.get_threshold() == RARELY:
        gc.freeze()
