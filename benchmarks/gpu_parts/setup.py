"""What a part is given: the device with its clock and memory, its size, and where its rows go."""

from __future__ import annotations

import gc
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

GB = 1e9


@dataclass(frozen=True)
class Setup:
    """Where a part runs, and how large."""

    device: str
    """cuda, or cpu: then nothing is a number of a card."""
    tiny: bool
    """Networks and pictures of a few pixels, so that everything runs on two cores."""
    ends: float
    """`time.monotonic()` at which the part will be stopped."""
    scratch: Path
    """Folder of the part's own, empty at the start."""

    @property
    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.ends - time.monotonic()

    @property
    def cuda(self) -> bool:
        """Whether the device is a card."""
        return self.device.startswith("cuda")

    def synchronize(self) -> None:
        """Wait for the device; a CPU is never behind."""
        if self.cuda:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Wall seconds of one call, the device's work included."""
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - began

    def median(self, work: Callable[[], Any], times: int = 5, warm: int = 1) -> float:
        """Median seconds of some calls after warm ones; tiny, of one."""
        if self.tiny:
            return self.seconds(work)
        for _ in range(warm):
            work()
        return statistics.median(self.seconds(work) for _ in range(times))

    def fresh_peak(self) -> None:
        """Forget the peak so far, and what nothing holds any more."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    @property
    def peak(self) -> float:
        """Most bytes that tensors held since `fresh_peak`; NaN without a card."""
        return float(torch.cuda.max_memory_allocated()) if self.cuda else math.nan

    @property
    def reserved(self) -> float:
        """Most bytes that torch took of the card since then, its CUDA context apart."""
        return float(torch.cuda.max_memory_reserved()) if self.cuda else math.nan

    @property
    def held(self) -> float:
        """Bytes that tensors hold now; NaN without a card."""
        return float(torch.cuda.memory_allocated()) if self.cuda else math.nan

    @property
    def memory(self) -> float:
        """Bytes of the device's memory; without a card half of what the host has free."""
        if not self.cuda:
            return psutil.virtual_memory().available / 2
        return float(torch.cuda.get_device_properties(self.device).total_memory)


class Log:
    """Rows of a part: printed and written as they come, so that a part that dies leaves them."""

    def __init__(self, part: str, file: Path) -> None:
        self.part = part
        self.file = file

    def row(
        self,
        what: str,
        value: float | str,
        unit: str = "",
        *,
        most: float | None = None,
        note: str = "",
    ) -> None:
        """One number or fact. With `most` it is a check: a value above it, or NaN, fails it."""
        written = {"part": self.part, "what": what, "value": value, "unit": unit, "note": note}
        if most is not None:
            written |= {"most": most, "ok": float(value) <= most}
        self._write("row", _finite(written))
        print(as_text(written), flush=True)

    def cost(self, **fields: Any) -> None:
        """What a cycle or a sample cost, for `plan`."""
        self._write("cost", fields)

    def guarded(self, where: str, setup: Setup, work: Callable[[], None]) -> None:
        """Do one measurement; a device's refusal fails a row, and the others go on.

        What is no lack of memory is tried once more without cuDNN's attention, which takes some
        masks on some cards only.
        """
        for attempt in ("first", "without cuDNN's attention"):
            try:
                if setup.cuda:
                    torch.backends.cuda.enable_cudnn_sdp(attempt == "first")
                work()
                break
            except RuntimeError as error:
                told = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                self.row(f"{where}: failed, {attempt}", math.nan, most=0.0, note=told[:160])
                if not setup.cuda or isinstance(error, torch.OutOfMemoryError):
                    break
            finally:
                setup.fresh_peak()
        if setup.cuda:
            torch.backends.cuda.enable_cudnn_sdp(True)

    def say(self, text: str) -> None:
        """A line about what is going on."""
        print(f"  {self.part:<10} {text}", flush=True)

    def _write(self, kind: str, content: dict[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({kind: content}) + "\n")


def _finite(written: dict[str, Any]) -> dict[str, Any]:
    """NaN is no JSON: a number that is not there is null."""
    value = written["value"]
    missing = isinstance(value, float) and not math.isfinite(value)
    return written | {"value": None} if missing else written


def as_text(row: dict[str, Any]) -> str:
    """A row on one line."""
    value = row["value"]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        shown = "-"
    elif isinstance(value, float):
        shown = f"{value:.4g}"
    else:
        shown = str(value)
    limit = ""
    if "ok" in row:
        limit = f"  (at most {row['most']:g}: {'ok' if row['ok'] else 'FAILS'})"
    note = f"  {row['note']}" if row["note"] else ""
    return f"  {row['part']:<10} {row['what']:<58} {shown:>9} {row['unit']}{limit}{note}"


def apart(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative distance |found - reference| / |reference|, in float64 on the CPU."""
    a, b = found.detach().cpu().double(), reference.detach().cpu().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-30))


def flat_gradient(parameters: Iterable[nn.Parameter]) -> torch.Tensor:
    """All gradients in one float64 vector on the CPU; zero where the loss does not reach."""
    return torch.cat(
        [
            (torch.zeros(p.shape) if p.grad is None else p.grad.detach().cpu()).double().flatten()
            for p in parameters
        ]
    )
