"""The GPU check without a GPU: whole at tiny size, and each way in which a part can end."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path

import psutil
import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
FAMILIES = ("qwen-image", "qwen-image-2.1")


def _module(name: str):
    found = importlib.util.spec_from_file_location(f"benchmark_{name}", SCRIPT.with_stem(name))
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


gpu, gpu_wheels = _module("gpu"), _module("gpu_wheels")


def _whole(out: Path, *before: str, device: str) -> dict:
    done = subprocess.run(
        [
            sys.executable, *before, str(SCRIPT), "--tiny", "--device", device, "--minutes", "60",
            "--out", str(out),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert "none of these numbers is a card's" in done.stdout
    return json.loads(out.read_text())


def _complete(record: dict) -> None:
    assert {part: found["state"] for part, found in record["parts"].items()} == dict.fromkeys(
        gpu.PARTS, "done"
    )
    assert {row["part"] for row in record["rows"]} == set(gpu.PARTS)
    assert all(row["ok"] for row in record["rows"] if "ok" in row)
    costs = {(c["family"], c["task"], c["adapters"]) for c in record["costs"]}
    assert costs == {
        (family, task, adapters)
        for family in FAMILIES
        for task in ("t2i", "edit")
        for adapters in ("float32", "bfloat16")
    }
    # A cycle of the tiny recipe, k = 2: the row's exit draws vary, the rest does not.
    assert all(8 < c["forwards_per_cycle"] < 20 for c in record["costs"])


def test_the_whole_check_runs_on_the_cpu(tmp_path):
    record = _whole(tmp_path / "record.json", device="cpu")
    _complete(record)
    assert record["tiny"]
    assert record["versions"]["torch"] != "absent"
    # One device against itself: not a bit may differ.
    errors = [row["value"] for row in record["rows"] if row.get("most") == 1e-3]
    assert errors
    assert set(errors) == {0.0}


@pytest.mark.slow
def test_the_whole_check_runs_on_a_pretended_card(tmp_path):
    record = _whole(tmp_path / "record.json", "-m", "tests.benchmarks.pretend_card", device="card")
    _complete(record)


def test_what_was_measured_without_a_card_is_kept_nowhere_by_itself():
    for record in ({"device": "cpu", "tiny": False}, {"device": "cuda", "tiny": True}):
        assert gpu._place({**record, "card": {}, "date": "2026-01-01"}) is None
    kept = gpu._place(
        {
            "device": "cuda", "tiny": False, "date": "2026-01-01",
            "card": {"name": "NVIDIA H100 80GB HBM3"},
        }
    )  # fmt: skip
    assert kept == gpu.RESULTS / "gpu-nvidia-h100-80gb-hbm3-2026-01-01.json"


@pytest.fixture
def part(monkeypatch, tmp_path):
    """Run a function as a part; gives what the driver keeps of it."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))

    def run(measure, limit: float = 60.0) -> dict:
        module = types.ModuleType("gpu_parts.pretended")
        module.measure = measure
        monkeypatch.setitem(sys.modules, "gpu_parts.pretended", module)
        return gpu._run("pretended", "cpu", True, limit, time.monotonic() + limit, tmp_path)

    return run


def test_a_part_that_fails_leaves_what_it_saw(part, capfd):
    def measure(setup, log):
        log.row("seen", 1.0)
        raise RuntimeError("CUDA error: an illegal memory access")

    found = part(measure)
    assert (found["state"], found["reason"]) == (
        "failed",
        "RuntimeError: CUDA error: an illegal memory access",
    )
    assert found["lines"][0]["row"]["what"] == "seen"
    assert "illegal memory access" in capfd.readouterr().err


def test_a_part_that_hangs_is_ended_with_all_its_processes(part, tmp_path):
    def measure(setup, log):
        log.row("seen", 1.0)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (tmp_path / "child").write_text(str(child.pid))
        time.sleep(600)

    found = part(measure, limit=5.0)
    assert found["state"] == "stopped"
    assert "5 s" in found["reason"]
    assert [line["row"]["what"] for line in found["lines"]] == ["seen"]
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie":
            break
        time.sleep(0.05)
    else:
        pytest.fail("a process of the stopped part lives on")


def test_a_part_that_is_killed_is_told_apart_from_one_that_raised(part):
    def measure(setup, log):
        log.row("seen", 1.0)
        with log.file.open("a") as out:
            out.write('{"row": {"what": "half a li')
            out.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    found = part(measure)
    assert (found["state"], found["reason"]) == ("failed", "exit -9")
    assert len(found["lines"]) == 1


def test_an_interrupted_part_leaves_what_it_saw_and_ends_the_run(part):
    def measure(setup, log):
        log.row("seen", 1.0)
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(600)

    # Where tests run in the background it is ignored; and the driver ignores it from then on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        found = part(measure)
    finally:
        signal.signal(signal.SIGINT, before)
    assert found["state"] == gpu.INTERRUPTED
    assert len(found["lines"]) == 1


def test_what_cannot_be_imported_fails_the_parts_that_need_it(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "HEAVY", ("surely_nobody_has_this_either", "json"))
    monkeypatch.setattr(torch._C, "_cuda_getDeviceCount", lambda: 0)
    gpu._import([], 0)
    assert "surely_nobody_has_this_either cannot be imported" in capsys.readouterr().out


def test_the_record_is_kept_after_every_part(tmp_path, monkeypatch):
    out, seen = tmp_path / "new" / "record.json", []

    def run(part, *_):
        seen.append(json.loads(out.read_text()) if out.exists() else None)
        return {"state": "done", "reason": "", "seconds": 0.0, "lines": []}

    monkeypatch.setattr(gpu, "_run", run)
    monkeypatch.setattr(gpu, "_import", lambda parts, cards: None)
    monkeypatch.setattr(gpu, "_cards", lambda: 0)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = ["--only", "card,width", "--tiny", "--device", "cpu", "--out", str(out)]
    assert gpu.main(arguments) == 0
    assert seen[0] is None
    assert set(seen[1]["parts"]) == {"card"}
    assert set(json.loads(out.read_text())["parts"]) == {"card", "width"}


def test_a_part_without_time_left_is_left_out(part):
    assert part(lambda setup, log: None, limit=0.5)["state"] == "left out"


def test_a_check_fails_above_its_limit_and_for_no_number(part):
    def measure(setup, log):
        log.row("good", 0.5, most=1.0)
        log.row("bad", 2.0, most=1.0)
        log.row("none", float("nan"), most=1.0)

    rows = [line["row"] for line in part(measure)["lines"]]
    assert [row["ok"] for row in rows] == [True, False, False]
    assert rows[2]["value"] is None
    assert gpu._failures({"rows": rows, "parts": {}}) == 2


def test_a_device_that_refuses_one_measurement_does_the_next(part):
    def measure(setup, log):
        def refused():
            raise RuntimeError("CUDA error: no execution plan\nlong explanation")

        log.guarded("first", setup, refused)
        log.guarded("second", setup, lambda: log.row("measured", 1.0))

    found = part(measure)
    assert found["state"] == "done"
    failed, measured = (line["row"] for line in found["lines"])
    assert failed["ok"] is False
    assert failed["note"] == "RuntimeError: CUDA error: no execution plan"
    assert measured["what"] == "measured"


def test_a_part_may_take_what_those_before_it_left():
    now = time.monotonic()
    chosen = ["card", "toyworld", "width"]
    rest = gpu.PARTS["toyworld"] + gpu.PARTS["width"]
    late = gpu.limit_of("card", chosen, now + gpu.PARTS["card"] + rest, 8)
    assert late == pytest.approx(gpu.PARTS["card"], abs=1)
    early = gpu.limit_of("toyworld", chosen, now + rest + 15, 8)
    assert early == pytest.approx(gpu.PARTS["toyworld"] + 15, abs=1)
    assert gpu.limit_of("width", chosen, now, 16) == 2 * gpu.PARTS["width"]


def test_what_is_asked_for_is_checked_before_anything_is_imported(tmp_path, capsys):
    for arguments, told in (
        (["--only", "card,sclae"], "no part 'sclae'; parts are card, toyworld"),
        (["--minutes", "0"], "more than 0"),
        (["--out", str(tmp_path)], "is a folder"),
        (["--device", "gpu"], "invalid choice"),
    ):
        with pytest.raises(SystemExit) as refused:
            gpu.main(arguments)
        assert refused.value.code == 2
        assert told in capsys.readouterr().err
    assert gpu._parts("width,card,card") == ["card", "width"]


def test_a_card_that_is_not_there_is_told_as_such(monkeypatch):
    monkeypatch.setattr(gpu, "_cards", lambda: 0)
    monkeypatch.setattr(gpu.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(SystemExit, match="torch sees no card here"):
        gpu.main(["--device", "cuda"])
    with pytest.raises(SystemExit, match="add --tiny"):
        gpu.main([])


FORKED = """
import os, runpy, sys
gpu = runpy.run_path(sys.argv[1])
sys.path[:0] = [str(gpu["ROOT"]), str(gpu["ROOT"] / "benchmarks")]
gpu["_import"](list(gpu["PARTS"]), 1)
import torch
if os.fork() == 0:
    torch.cuda.device_count()
    print("poisoned", torch.cuda._is_in_bad_fork(), flush=True)
    os._exit(0)
os.wait()
"""


def test_imports_leave_cuda_to_the_parts():
    """A process that asked CUDA for its cards, as some libraries do, forks none that can use it."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(SCRIPT)], capture_output=True, text=True, check=True
    )
    assert "poisoned False" in done.stdout


def _wheel(folder: Path, name: str, tag: str) -> Path:
    file = folder / f"{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(f"{name}.py", "SAID = 'from a wheel'\n")
        made.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\nVersion: 1.0\n")
    return file


def test_a_missing_package_comes_from_its_wheel(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    _wheel(tmp_path, "surely_nobody_has_this", "py3-none-any")
    _wheel(tmp_path, "numpy", "py3-none-any")  # here already: its wheel is left alone
    gpu.unpack(tmp_path, tmp_path / "site")
    import surely_nobody_has_this

    assert surely_nobody_has_this.SAID == "from a wheel"
    assert not (tmp_path / "site" / "numpy.py").exists()
    assert sys.path[-1] == str(tmp_path / "site")


def test_a_wheel_for_another_python_is_refused_with_what_to_do(tmp_path):
    _wheel(tmp_path, "surely_nobody_has_that", "cp27-cp27m-manylinux1_x86_64")
    with pytest.raises(SystemExit, match=r"gpu_wheels.py --python \d"):
        gpu.unpack(tmp_path, tmp_path / "site")


def test_wheels_are_those_the_lock_pins():
    lock = "pydantic==2.14.3 \\\n    --hash=sha256:00\nrfc8785==0.1.4\npydantic-core==2.50.4 ; x\n"
    wanted = gpu_wheels.pins(lock, ("pydantic", "pydantic-core", "rfc8785"))
    assert wanted == ["pydantic==2.14.3", "pydantic-core==2.50.4", "rfc8785==0.1.4"]
    with pytest.raises(SystemExit, match="pins no diffusers"):
        gpu_wheels.pins(lock, ("diffusers",))
    assert len(gpu_wheels.pins((ROOT / "requirements.lock").read_text())) == len(gpu_wheels.NAMES)
