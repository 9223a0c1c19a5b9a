"""Does it work on a GPU, and how fast: one command, no download, at most eight minutes.

    python benchmarks/gpu.py [--only scale,resume] [--minutes 8] [--tiny] [--device cpu]

Seven parts, each a process of its own with its own limit: one that fails or hangs takes no other
along, and what it had seen by then stays. Rows are printed as they come, then one table; the JSON
in `benchmarks/results/` is read by `stillhouse plan` as measured costs. `--tiny` runs everything on
networks of a few thousand weights, so that on a card only the numbers are new.

Nothing has to be installed: the repository as it lies, torch and transformers as they stand on the
machine, and the wheels that `make gpu-wheels` collected in `wheels/`, unpacked into a temporary
folder where a package is missing. Exit code 1 if a part or a check failed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PARTS = {
    "card": 20,
    "toyworld": 45,
    "width": 75,
    "scale": 195,
    "resume": 45,
    "measuring": 55,
    "sharing": 45,
}
"""Seconds kept for each part out of eight minutes; other `--minutes` stretch them alike."""
INTERRUPTED = "interrupted"
_ask_cuda: Any = None
"""Torch's own count of the cards, while imports are given another's."""
HEAVY = (
    "diffusers.models.transformers.transformer_qwenimage",
    "diffusers.models.transformers.transformer_qwenimage21",
    "open_clip",
    "recipes.subject.training",
    "torchvision.models",
)
PACKAGES = (
    "torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "peft", "pydantic",
    "numpy",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the parts; exit code."""
    given = _arguments(arguments)
    for needed in ("torch", "packaging"):
        if importlib.util.find_spec(needed) is None:
            raise SystemExit(f"{sys.executable} has no {needed}: give a Python that has torch")
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asks the driver, not CUDA
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C
    began = time.monotonic()
    cards = _cards()
    device = given.device or ("cuda" if cards else "cpu")
    if device == "cuda" and not cards:
        raise SystemExit("torch sees no card here; --tiny runs the path alone, on the CPU")
    if device == "cpu" and not (given.tiny or given.device):
        raise SystemExit("no card here: add --tiny for the path alone, or --device cpu")
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as scratch:
        unpack(given.wheels, Path(scratch) / "site")
        _import(given.only, cards)
        if given.tiny:
            print("tiny: sizes in the names of rows are a card's, not these networks'")
        print(f"device {device}; imported in {time.monotonic() - began:.0f} s", flush=True)
        ends = began + 60 * given.minutes
        done: dict[str, dict[str, Any]] = {}
        for part in given.only:
            limit = limit_of(part, given.only, ends, given.minutes)
            done[part] = _run(part, device, given.tiny, limit, ends, Path(scratch))
            record = _record(done, device, tiny=given.tiny, seconds=time.monotonic() - began)
            # After every part: whoever stops the whole keeps what there is.
            out = _written(record, given.out or _place(record))
            if done[part]["state"] == INTERRUPTED:
                break
    _show(record)
    print(f"written to {out}" if out is not None else "kept nowhere: no card's, and no --out")
    if done[part]["state"] == INTERRUPTED:
        return 130
    return int(len(done) < len(given.only) or _failures(record) > 0)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n")[0],
        epilog="example: python benchmarks/gpu.py --only card,scale --minutes 4",
    )
    names = ", ".join(PARTS)
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"some of {names}")
    parser.add_argument("--minutes", type=float, default=8.0, help="limit of the whole")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: proves the path only")
    parser.add_argument(
        "--device", default="", choices=("cuda", "cpu", "card"),
        help="default cuda where there is one, else cpu; card is the one that tests pretend",
    )  # fmt: skip
    parser.add_argument("--wheels", type=Path, default=ROOT / "wheels", help="folder of wheels")
    parser.add_argument(
        "--out", type=Path, help="JSON file; default in benchmarks/results/, for a card's numbers"
    )
    given = parser.parse_args(arguments)
    if given.minutes <= 0:
        parser.error(f"--minutes {given.minutes:g}: more than 0 are needed")
    if given.out is not None and given.out.is_dir():
        parser.error(f"--out {given.out} is a folder; name a file in it")
    return given


def _parts(text: str) -> list[str]:
    unknown = [name for name in text.split(",") if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part {unknown[0]!r}; parts are {', '.join(PARTS)}")
    return [name for name in PARTS if name in text.split(",")]  # in their order, each once


def unpack(wheels: Path, site: Path) -> None:
    """Put wheels of packages that are missing here on the path, unpacked.

    Raises:
        SystemExit: a wheel is for another Python or machine.
    """
    from packaging.tags import sys_tags
    from packaging.utils import parse_wheel_filename

    added = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version, _, tags = parse_wheel_filename(wheel.name)
        try:
            importlib.metadata.version(name)
            continue
        except importlib.metadata.PackageNotFoundError:
            pass
        if tags.isdisjoint(sys_tags()):
            python = ".".join(map(str, sys.version_info[:2]))
            raise SystemExit(
                f"{wheel}: not for this Python; collect where packages can be fetched: "
                f"python benchmarks/gpu_wheels.py --python {python}"
            )
        with zipfile.ZipFile(wheel) as held:
            held.extractall(site)
        added.append(f"{name} {version}")
    if added:
        sys.path.append(str(site))
        importlib.invalidate_caches()
        print(f"from {wheels.name}/: {', '.join(added)}", flush=True)


def _import(parts: list[str], cards: int) -> None:
    """What the parts would import each for itself; what fails here fails the parts that need it.

    Some libraries count the cards as they are imported, and a process that asked CUDA forks none
    that can use it. So they are told the number that a process of its own has found.
    """
    import torch

    global _ask_cuda
    _ask_cuda = _ask_cuda or torch._C._cuda_getDeviceCount
    torch._C._cuda_getDeviceCount = lambda: cards
    for name in (*(f"gpu_parts.{part}" for part in parts), *HEAVY):
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"{name} cannot be imported: {type(error).__name__}: {error}", flush=True)


def _cards() -> int:
    """Cards that torch sees; 0 also where it cannot be imported.

    Asked in a process of its own: whoever asks CUDA cannot fork processes that use it.
    """

    def ask(answer: Any) -> None:
        import torch

        answer.send(torch.cuda.device_count() if torch.cuda.is_available() else 0)

    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=ask, args=(theirs,))
    process.start()
    process.join(60)
    return int(ours.recv()) if ours.poll() else 0


def limit_of(part: str, chosen: list[str], ends: float, minutes: float) -> float:
    """Seconds a part may take: its own, and what those before it left over."""
    after = chosen[chosen.index(part) + 1 :]
    kept = sum(PARTS[name] for name in after) * minutes / 8
    return max(PARTS[part] * minutes / 8, ends - time.monotonic() - kept)


def _run(
    part: str, device: str, tiny: bool, limit: float, ends: float, scratch: Path
) -> dict[str, Any]:
    """One part in a process, within its limit and the whole's end."""
    limit = min(limit, ends - time.monotonic())
    file = scratch / f"{part}.jsonl"
    home = scratch / part
    home.mkdir()
    print(f"{part}: at most {max(limit, 0):.0f} s", flush=True)
    if limit < 1:
        return {"state": "left out", "reason": "no time left", "seconds": 0.0, "lines": []}
    began = time.monotonic()
    process = get_context("fork").Process(
        target=_child, args=(part, device, tiny, began + limit, home, file)
    )
    process.start()
    interrupted = False
    try:
        process.join(limit)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all that is left is to keep what was seen
        interrupted = True
    stopped = process.exitcode is None
    if stopped:
        _end(process)
    seconds = time.monotonic() - began
    lines = [json.loads(line) for line in _complete(file)]
    state, reason = "done", ""
    if interrupted:
        state = INTERRUPTED
    elif stopped:
        state, reason = "stopped", f"at its limit of {limit:.0f} s"
    elif process.exitcode:
        told = [line["failed"] for line in lines if "failed" in line]
        state, reason = "failed", told[0] if told else f"exit {process.exitcode}"
    print(f"{part}: {state} {reason} in {seconds:.1f} s", flush=True)
    return {"state": state, "reason": reason, "seconds": seconds, "lines": lines}


def _complete(file: Path) -> list[str]:
    """Whole lines of a file that its writer may have left in the middle of one."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return text[: text.rfind("\n") + 1].split("\n")[:-1]


def _end(process: Any) -> None:
    """Kill a part and the processes it started, which are of its group.

    Waits a moment: the card frees the memory of those that nobody waits for.
    """
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.join()
    time.sleep(1)


def _child(part: str, device: str, tiny: bool, ends: float, home: Path, file: Path) -> None:
    os.setsid()
    import torch

    if _ask_cuda is not None:
        torch._C._cuda_getDeviceCount = _ask_cuda
    from gpu_parts.setup import Log, Setup

    if tiny:
        torch.set_num_threads(1)
    # Some images switch it on for everything; float32 is compared with the CPU's here.
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        module = importlib.import_module(f"gpu_parts.{part}")
        module.measure(Setup(device, tiny, ends, home), Log(part, file))
    except BaseException as error:
        traceback.print_exc()
        told = f"{type(error).__name__}: {error}"
        with file.open("a", encoding="utf-8") as out:
            out.write(json.dumps({"failed": told[-600:]}) + "\n")
        # Nothing of the parent's runs on the way out: its temporary folder is still in use.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _record(done: dict[str, Any], device: str, *, tiny: bool, seconds: float) -> dict[str, Any]:
    lines = {part: found["lines"] for part, found in done.items()}
    told = {part: {k: v for k, v in found.items() if k != "lines"} for part, found in done.items()}
    rows = [line["row"] for found in lines.values() for line in found if "row" in line]
    card = {row["what"]: row["value"] for row in rows if row["part"] == "card" and not row["unit"]}
    return {
        "schema": 1,
        "date": time.strftime("%F"),
        "device": device,
        "tiny": tiny,
        "card": card,
        "versions": {name: _version(name) for name in PACKAGES},
        "seconds": round(seconds, 1),
        "parts": told,
        "rows": rows,
        "costs": [line["cost"] for found in lines.values() for line in found if "cost" in line],
    }


def _written(record: dict[str, Any], out: Path | None) -> Path | None:
    """Keep the record as it stands; returns where."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(out.name + ".part")
        part.write_text(json.dumps(record, indent=1) + "\n")
        part.replace(out)
    return out


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _failures(record: dict[str, Any]) -> int:
    checks = sum(row.get("ok") is False for row in record["rows"])
    return checks + sum(part["state"] != "done" for part in record["parts"].values())


def _show(record: dict[str, Any]) -> None:
    from gpu_parts.setup import as_text

    name = record["card"].get("name", record["device"])
    print(f"\n{name}, {record['date']}, {record['seconds']:.0f} s in all")
    print(", ".join(f"{package} {version}" for package, version in record["versions"].items()))
    for row in record["rows"]:
        print(as_text(row))
    for part, found in record["parts"].items():
        print(f"  {part:<10} {found['state']} in {found['seconds']:.1f} s {found['reason']}")
    checks = [row for row in record["rows"] if "ok" in row]
    passed = sum(row["ok"] for row in checks)
    print(f"checks: {passed} of {len(checks)} pass", end="")
    print(" (tiny: none of these numbers is a card's)" if record["tiny"] else "", flush=True)


def _place(record: dict[str, Any]) -> Path | None:
    """Where a run on a card is kept; None for anything else."""
    if record["device"] != "cuda" or record["tiny"]:
        return None
    card = re.sub(r"[^a-z0-9]+", "-", str(record["card"].get("name", "card")).lower()).strip("-")
    return RESULTS / f"gpu-{card}-{record['date']}.json"


if __name__ == "__main__":
    sys.exit(main())
