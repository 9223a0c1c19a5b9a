"""Someone else's trainer for the tests: a program that knows nothing of Stillhouse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from harness.subjects.command import CommandSubject
from harness.subjects.settings import CommandSettings

TRAINER = '''
"""Adds one random number a step; told what to do wrong by --mode."""
import json, os, pathlib, random, signal, subprocess, sys, time

args = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
folder = pathlib.Path(args["out"])
mode, steps = args.get("mode", ""), int(args.get("steps", 4))
state = {"step": 0, "sum": 0.0}
if args.get("resume"):
    state = json.loads((pathlib.Path(args["resume"]) / "state.json").read_text())

def save(step):
    made = folder / f"part-{step}"
    made.mkdir(exist_ok=True)
    (made / "state.json").write_text(json.dumps(state))
    if not (folder / f"checkpoint-{step}").exists():
        made.rename(folder / f"checkpoint-{step}")

def asked_to_stop(*_):
    save(state["step"])
    print("saved before stopping", flush=True)
    sys.exit(0)

if mode == "polite":
    signal.signal(signal.SIGTERM, asked_to_stop)
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if mode in ("stubborn", "family"):  # a child in a session of its own, as torchrun makes them
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                             start_new_session=True)
    (folder / "pids.tmp").write_text(f"{os.getpid()} {child.pid}")
    os.rename(folder / "pids.tmp", folder / "pids.txt")

print("argv", json.dumps(sys.argv[1:]))
print("env", os.environ.get("COLOUR", ""))
log = (folder / "progress.jsonl").open("a", buffering=1)
for step in range(state["step"] + 1, steps + 1):
    draw = random.Random(f"{args['seed']} {step}").gauss(0, 1)
    state = {"step": step, "sum": state["sum"] + draw}
    loss = float("nan") if mode == "nan" and step == 2 else 1 / step
    line = {"step": step, "total": steps, "metrics": {"train/loss": loss, "score": state["sum"]}}
    if mode == "silent":
        del line["metrics"]["score"]
    if mode == "gives up" and step == 2:
        line = {"step": step, "diverged": "weights exploded"}
    log.write(json.dumps(line) + "\\n")
    if mode == "noisy":
        log.write("epoch 1 of 3\\n[1, 2]\\n")
    save(step)
    if mode == "breaks" and step == 2:
        print("Traceback: shapes do not match", file=sys.stderr)
        sys.exit(3)
    if mode == "memory" and step == 2:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB")
    if mode in ("polite", "stubborn", "family") and step == 2:
        time.sleep(600)
    if mode == "slow":
        time.sleep(0.3)
if mode != "homeless":
    (folder / "student").mkdir(exist_ok=True)
    (folder / "student" / "weights.json").write_text(
        json.dumps({"score": 1.0 + 0.1 * state["sum"], "cost": 2.0}))
'''

OWN = {"score": {"higher_is_better": True, "headline": True}}
COMMAND = [
    sys.executable, "trainer.py", "out={attempt}", "seed={seed.init}", "mode={recipe.mode}",
    "steps={recipe.train.steps}",
]  # fmt: skip
RECIPE: dict[str, Any] = {"mode": "", "train": {"steps": 4}}


def settings(**changes: Any) -> CommandSettings:
    """The trainer's settings; it measures itself unless `student` says otherwise."""
    given: dict[str, Any] = {
        "command": COMMAND,
        "code": ["trainer.py"],
        "metrics": OWN,
        "checkpoint": "{attempt}/checkpoint-*",
        "resume": "resume={resume}",
        "grace_seconds": 2.0,
    }
    return CommandSettings.model_validate({**given, **changes})


def command(folder: Path, **changes: Any) -> CommandSubject:
    """The trainer as a subject that measures itself, its program in `folder`."""
    (folder / "trainer.py").write_text(TRAINER)
    return CommandSubject(settings(**changes), folder)


def recipe(mode: str = "", steps: int = 4) -> dict[str, Any]:
    """A recipe of the trainer."""
    return {"mode": mode, "train": {"steps": steps}}


def context(folder: Path, **changes: Any) -> Context:
    """An attempt's context, its folder made."""
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {
        "key": "0" * 16,
        "replicate": 0,
        "seed": stream_for(0),
        "folder": folder,
        "measurement": Measurement(protocol="trainer"),
    }
    return Context(**{**given, **changes})
