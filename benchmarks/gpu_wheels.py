"""Collect what a machine with a GPU lacks: wheels for `benchmarks/gpu.py`, in the pinned versions.

    python benchmarks/gpu_wheels.py [--python 3.12] [--into wheels]

Such a machine has torch and transformers of its own and cannot fetch anything. The versions are
those of `requirements.lock`; wheels already there are kept. Says what the repository and the wheels
weigh together, and fails where that is more than `--most` MiB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "annotated-types", "diffusers", "ftfy", "importlib-metadata", "open-clip-torch", "pydantic",
    "pydantic-core", "rfc8785", "ruamel-yaml", "typing-inspection", "wcwidth",
)  # fmt: skip
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
MIB = 1 << 20


def pins(lock: str, names: tuple[str, ...] = NAMES) -> list[str]:
    """`name==version` of each name in a lock file.

    Raises:
        SystemExit: a name is not pinned.
    """
    found = dict(re.findall(r"^([a-zA-Z0-9_.-]+)==([^\s;\\]+)", lock, flags=re.MULTILINE))
    missing = [name for name in names if name not in found]
    if missing:
        raise SystemExit(f"requirements.lock pins no {', '.join(missing)}")
    return [f"{name}=={found[name]}" for name in names]


def collect(wanted: list[str], python: str, into: Path) -> None:
    """Download wheels of the wanted packages for a version of Python; others in the folder go."""
    into.mkdir(parents=True, exist_ok=True)
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    with tempfile.TemporaryDirectory() as fresh:
        subprocess.run(
            [
                sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
                "--only-binary=:all:", "--python-version", python, "--implementation", "cp",
                *platforms, "--find-links", str(into), "--dest", fresh, *wanted,
            ],
            check=True,
        )  # fmt: skip
        for old in into.glob("*.whl"):
            old.unlink()
        for wheel in Path(fresh).glob("*.whl"):
            (into / wheel.name).write_bytes(wheel.read_bytes())


def tracked_bytes() -> int:
    """Bytes of the files that git tracks."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = (ROOT / name for name in names.stdout.decode().split("\0") if name)
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> int:
    """Collect, list, weigh; exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--python", default="3.12", help="Python of the machine")
    parser.add_argument("--into", type=Path, default=ROOT / "wheels", help="folder, not in git")
    parser.add_argument("--most", type=float, default=64.0, help="MiB that may travel")
    given = parser.parse_args()
    collect(pins((ROOT / "requirements.lock").read_text()), given.python, given.into)
    wheels = sorted(given.into.glob("*.whl"))
    for wheel in wheels:
        print(f"{wheel.stat().st_size / MIB:7.2f} MiB  {wheel.name}")
    weight = sum(wheel.stat().st_size for wheel in wheels) / MIB
    whole = weight + tracked_bytes() / MIB
    print(f"{weight:7.2f} MiB of wheels; {whole:.1f} MiB with the repository, of {given.most:g}")
    return int(whole > given.most)


if __name__ == "__main__":
    sys.exit(main())
