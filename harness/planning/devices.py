"""GPUs and cores of this machine, and how many trials fit on them at once."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from harness.errors import HarnessError
from harness.study.model import Resources

DEVICES = Path("/dev")


def gpus_here() -> int:
    """GPUs this process may use, without importing torch or calling nvidia-smi."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([d for d in named.split(",") if d.strip() and d.strip() != "-1"])
    return len([p for p in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)])


def cpus_here() -> int:
    """CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_devices(resources: Resources) -> None:
    """Refuse trials that would wait for devices forever.

    Raises:
        HarnessError: if one trial asks for more GPUs or cores than there are.
    """
    gpus, cpus = gpus_here(), cpus_here()
    if resources.gpus > gpus:
        raise HarnessError(
            f"resources.gpus is {resources.gpus:g} a trial, this machine offers {gpus} "
            "(/dev/nvidia*, CUDA_VISIBLE_DEVICES). Set `resources: {gpus: 0}` to run on the CPU, "
            "or run where the GPUs are; `plan --gpus N` plans for a cluster of N."
        )
    if resources.cpus > cpus:
        raise HarnessError(
            f"resources.cpus is {resources.cpus:g} a trial, this machine offers {cpus}. Ask for "
            f"{cpus} or fewer."
        )


def parallel_here(resources: Resources) -> int:
    """Trials that fit on this machine at once; at least 1."""
    # 1 / (1 / 3) may be 2.9999...: three trials of a third of a device fit on it.
    fit = math.floor(cpus_here() / resources.cpus + 1e-9)
    if resources.gpus > 0:
        fit = min(fit, math.floor(gpus_here() / resources.gpus + 1e-9))
    return max(1, fit)


def parallel_of(resources: Resources, gpus: int) -> int:
    """Trials at once on a cluster of some GPUs; cores are taken to be enough.

    Raises:
        HarnessError: if not even one trial fits.
    """
    if resources.gpus <= 0:
        raise HarnessError(
            "--gpus plans for a cluster, but resources.gpus of this study is 0: its trials run on "
            "the CPU. Set resources.gpus, or leave --gpus out."
        )
    fit = math.floor(gpus / resources.gpus + 1e-9)
    if fit < 1:
        raise HarnessError(
            f"resources.gpus is {resources.gpus:g} a trial, --gpus plans for {gpus}. Give at least "
            f"{math.ceil(resources.gpus)}."
        )
    return fit
