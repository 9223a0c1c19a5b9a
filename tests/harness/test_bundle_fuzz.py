"""Thousands of broken bundles: only our errors, no hang, nothing written outside the folder."""

import random
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from harness.bundle.read import extract_bundle, verify_bundle
from harness.bundle.verify.prompt_rows import PROMPTS
from harness.bundle.verify.recomputed import ANSWER
from harness.errors import BundleError
from harness.journal.history import History
from harness.journal.trial import key_of

from .bundle_mutants import MUTATIONS, changed_prompts
from .bundles import contents, small, studied

STUDY = """\
name: demo
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors: {{x: [0.0, 1.0]}}
baseline: {{x: 0.0}}
replicates: 2
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x helps, a: {{x: 1.0}}, b: {{x: 0.0}}, metric: score, expect: higher}}
  - {{id: H2, a: {{x: 1.0}}, b: {{x: 0.0}}, metric: cost}}
"""
HANG_SECONDS = 60
"""No promise of speed: a mutant takes some ten milliseconds, a hang takes for ever."""
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("fuzz")
    made = studied(folder / "p", STUDY, "{prompts: 4}")
    return contents(small(made, folder / "demo.zip"))


class Hung(BaseException):
    """The reader hangs; no `except` of its own may take this for a broken file."""


def _hung(*_: object) -> None:
    raise Hung


def fuzz(members: dict[str, bytes], numbers: range, folder: Path) -> Counter[str]:
    told: Counter[str] = Counter()
    signal.signal(signal.SIGALRM, _hung)
    file, into = folder / "mutant.zip", folder / "into"
    for number in numbers:
        rng = random.Random(number)
        mutate = MUTATIONS[number % len(MUTATIONS)]
        file.write_bytes(mutate(members, rng))
        error = _read(file, into / "x", number)
        told[f"{mutate.__name__}: {'refused' if error else 'valid'}"] += 1
        if error is None:
            _is_sound(into / "x", number)
            shutil.rmtree(into / "x")
        else:
            text = str(error)
            assert text.startswith(f"{file}: "), (number, text)
            assert text.isprintable(), (number, text)
            assert not list(into.iterdir()), number
            assert error.member or not mutate.__name__.startswith("changed"), (number, text)
        assert {p.name for p in folder.iterdir()} == {"mutant.zip", "into"}, number
    return told


def _read(file: Path, folder: Path, number: int) -> BundleError | None:
    signal.alarm(HANG_SECONDS)
    try:
        extract_bundle(file, folder)
    except BundleError as error:
        return error
    except Exception as error:
        raise AssertionError(f"mutant {number} breaks the reader: {error!r}") from error
    finally:
        signal.alarm(0)
    return None


def _is_sound(folder: Path, number: int) -> None:
    """What was accepted reads as history, and every recipe hashes to its key."""
    assert all(p.is_dir() or (p.is_file() and not p.is_symlink()) for p in folder.rglob("*"))
    history = History.read([folder / "results"])
    assert not history.warnings, number
    for key, record in history.trials.items():
        for attempt in record.ordered:
            t = attempt.opened.trial
            assert key_of(t.recipe, t.replicate, t.data, t.kind, subject=t.subject) == key, number


def test_broken_bundles_are_refused(members, tmp_path: Path):
    told = fuzz(members, range(200), tmp_path)
    assert {name.split(":")[0] for name in told} == {m.__name__ for m in MUTATIONS}


def test_whatever_is_changed_in_values_by_prompt_is_found(members, tmp_path: Path):
    """A number of the answer rests on every row: none of these may pass."""
    for number in range(300):
        file = tmp_path / f"mutant-{number}.zip"
        file.write_bytes(changed_prompts(members, random.Random(number)))
        with pytest.raises(BundleError) as found:
            verify_bundle(file)
        file.unlink()
        assert found.value.member in (PROMPTS, ANSWER), (number, found.value)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_ten_thousand_broken_bundles_are_refused(members, tmp_path: Path):
    told = fuzz(members, range(200, 10_200), tmp_path)
    print(dict(sorted(told.items())))
    assert sum(n for name, n in told.items() if "refused" in name) > 6_000
