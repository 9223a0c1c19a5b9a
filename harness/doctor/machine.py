"""Python, packages against what is asked for, torch with its CUDA, GPUs and cores."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from harness.doctor.finding import Finding, ProbeError, fail, ok, probe, warn
from harness.journal.environment import DISTRIBUTION
from harness.planning.devices import cpus_here, gpus_here

LOCK = Path(__file__).parents[2] / "requirements.lock"
TORCH_SECONDS = 180.0
# `init` raises with the driver's own words, where `is_available` only says no.
TORCH = """
import json, torch
reason = ""
try:
    torch.cuda.init()
except Exception as error:
    reason = str(error).strip().splitlines()[0]
print(json.dumps([torch.__version__, torch.version.cuda, torch.cuda.device_count(), reason]))
"""


def python() -> Finding:
    """Python against what the package asks for."""
    here = platform.python_version()
    try:
        wanted = metadata.metadata(DISTRIBUTION)["Requires-Python"] or ""
    except metadata.PackageNotFoundError:
        return fail("python", f"{DISTRIBUTION} is not installed", "make env, or pip install -e .")
    if here not in SpecifierSet(wanted):
        return fail("python", f"{here}, {wanted} is asked for", "make PYTHON=python3.12 env")
    return ok("python", here)


def packages(distill: bool) -> Finding:
    """Installed packages against the ranges that the package declares.

    Args:
        distill: whether the extra that our own subject needs counts.
    """
    try:
        declared = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
    except metadata.PackageNotFoundError:
        return fail("packages", f"{DISTRIBUTION} is not installed", "make env")
    wrong = [text for requirement in declared for text in _unmet(requirement, distill)]
    if wrong:
        return fail("packages", "; ".join(wrong), "make env installs what is asked for")
    return ok("packages", f"{len(declared)} requirements declared, those needed are met")


def _unmet(requirement: Requirement, distill: bool) -> Iterator[str]:
    extras = ["", "distill"] if distill else [""]
    marker = requirement.marker
    if marker is not None and not any(marker.evaluate({"extra": e}) for e in extras):
        return
    try:
        there = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        yield f"{requirement.name} is missing"
        return
    if not requirement.specifier.contains(there, prereleases=True):
        yield f"{requirement.name} {there}, {requirement.specifier} is asked for"


def pins(lock: Path = LOCK) -> Finding:
    """Installed packages against `requirements.lock`, where the source tree is at hand."""
    if not lock.is_file():
        return ok("pins", "no requirements.lock here to compare with")
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(), re.MULTILINE)
    there = {canonicalize_name(d.metadata["Name"]): d.version for d in metadata.distributions()}
    other = [
        f"{name} {there[canonicalize_name(name)]} (pinned {version})"
        for name, version in found
        # Not installed is no difference: what is needed and missing, `packages` names.
        if there.get(canonicalize_name(name), version) != version
    ]
    if other:
        shown = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
        return warn(
            "pins",
            f"{len(other)} of {len(found)} differ: {shown}",
            "results may differ in the last digits; make env installs the pinned versions",
        )
    return ok("pins", f"{len(found)} pinned packages, none differs")


def torch(seconds: float = TORCH_SECONDS) -> Finding:
    """Whether torch loads, in a process of its own, and its CUDA works on the GPUs here."""
    try:
        version, cuda, count, reason = json.loads(probe(TORCH, seconds=seconds))
    except ProbeError as error:
        return fail("torch", str(error), "make env installs it; then: python -c 'import torch'")
    devices = gpus_here()
    build = f"torch {version}, CUDA {cuda or 'none'}"
    if not devices:
        return ok("torch", f"{build}; no GPU here")
    if cuda is None:
        return fail(
            "torch",
            f"{build}, but there are {devices} GPU(s)",
            "this build is for CPUs: install torch for CUDA from pytorch.org's index",
        )
    if count == 0 or reason:
        return fail(
            "torch",
            f"{build} finds no working GPU of {devices}: {reason or 'none visible'}",
            "compare with the CUDA version that nvidia-smi prints: update the driver, or install "
            "torch for an older CUDA",
        )
    return ok("torch", f"{build}, {count} GPU(s)")


def gpus(wanted: float, elsewhere: bool) -> Finding:
    """GPUs here against what a trial asks for.

    Args:
        wanted: GPUs a trial, fractions allowed.
        elsewhere: trials run on a cluster, whose GPUs Ray counts.
    """
    here = gpus_here()
    if wanted > here and not elsewhere:
        return fail(
            "gpus",
            f"{here} here, a trial asks for {wanted:g}",
            "run where the GPUs are, check CUDA_VISIBLE_DEVICES, or set resources: {gpus: 0}",
        )
    return ok("gpus", f"{here} here" + (f", {wanted:g} a trial" if wanted else ""))


def cores(wanted: float, elsewhere: bool) -> Finding:
    """CPU cores here against what a trial asks for.

    Args:
        wanted: cores a trial, fractions allowed.
        elsewhere: trials run on a cluster, whose cores Ray counts.
    """
    here = cpus_here()
    if wanted > here and not elsewhere:
        return fail(
            "cores",
            f"{here} for this process, a trial asks for {wanted:g}",
            f"run on a larger machine, or set resources: {{cpus: {here}}}",
        )
    return ok("cores", f"{here} here, {wanted:g} a trial")
