"""Part 1: which card it is, and what its matrix units and its memory really do."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import torch

from gpu_parts.setup import GB, Log, Setup


def facts(setup: Setup) -> dict[str, Any]:
    """Name, memory, driver and versions."""
    found: dict[str, Any] = {
        "name": platform.processor() or platform.machine(),
        "device": setup.device,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cpus": torch.get_num_threads(),
    }
    if setup.cuda:
        card = torch.cuda.get_device_properties(setup.device)
        found |= {
            "name": card.name,
            "memory_bytes": card.total_memory,
            "multiprocessors": card.multi_processor_count,
            "capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": _driver(),
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_convolution": torch.backends.cudnn.allow_tf32,
        }
    return found


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown ({type(error).__name__})"
    return told.stdout.strip()


def matmul_rate(setup: Setup, dtype: torch.dtype, shape: tuple[int, int, int]) -> float:
    """Operations a second of (M, K) @ (K, N) on random data, the median of ten products."""
    m, k, n = shape
    a = torch.randn(m, k, device=setup.device).to(dtype)
    b = torch.randn(k, n, device=setup.device).to(dtype)
    out = torch.empty(m, n, device=setup.device, dtype=dtype)
    inner = 1 if setup.tiny else 10

    def products() -> None:
        for _ in range(inner):
            torch.matmul(a, b, out=out)

    return 2.0 * m * k * n * inner / setup.median(products, times=5, warm=2)


def square_rate(setup: Setup) -> float:
    """The card's bfloat16 rate: the yardstick of every share in these parts."""
    side = 64 if setup.tiny else 8192
    return matmul_rate(setup, torch.bfloat16, (side, side, side))


def measure(setup: Setup, log: Log) -> None:
    """Facts, matrix products, a copy."""
    for name, value in facts(setup).items():
        log.row(name, value)
    rate = square_rate(setup)
    log.row("bfloat16 product of 8,192 x 8,192 x 8,192", rate / 1e12, "TFLOP/s")
    tokens, width = (16, 32) if setup.tiny else (4216, 3072)
    for dtype in (torch.bfloat16, torch.float32):
        shape = (tokens, width, 4 * width)
        found = matmul_rate(setup, dtype, shape)
        log.row(
            f"{str(dtype)[6:]} product of a 1,024 px row: {' x '.join(map(str, shape))}",
            found / 1e12,
            "TFLOP/s",
        )
    count = 1 << (16 if setup.tiny else 30)
    a = torch.randn(count, device=setup.device)
    b = torch.empty_like(a)
    seconds = setup.median(lambda: b.copy_(a), times=5, warm=2)
    log.row("copy on the device, bytes read and written", 8.0 * count / seconds / GB, "GB/s")
    host = torch.empty(count // 4)
    if setup.cuda:
        host = host.pin_memory()
    seconds = setup.median(lambda: host.copy_(a[: count // 4]), times=3)
    log.row("copy from the device to pinned memory", count / seconds / GB, "GB/s")
