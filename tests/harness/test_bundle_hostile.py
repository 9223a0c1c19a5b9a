"""A bundle that asks the verifier for more work than its numbers are worth: refused, no hang."""

import json
import signal
from pathlib import Path

import pytest

from harness.bundle.read import verify_bundle
from harness.bundle.verify import recomputed
from harness.errors import BundleError
from harness.text.archive import Bad

from .bundles import STUDY, contents, rewritten, small, studied

ANSWER = "results/answer.json"
HANG_SECONDS = 60


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """Trials have noise of their own: without any, nothing has an interval."""
    folder = tmp_path_factory.mktemp("hostile")
    text = STUDY.replace("replicates: 6", "replicates: 3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_SPREAD", "0.05")
        return small(studied(folder / "p", text), folder / "demo.zip")


@pytest.fixture(autouse=True)
def _no_hang():
    def hung(*_: object) -> None:
        raise SystemExit("the verifier hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(HANG_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("df", [900000000001.0, 1e300, 0.0, -1.0, 8, None, "9"])
def test_degrees_of_freedom_are_counted_not_believed(df, file: Path, tmp_path: Path):
    answer = json.loads(contents(file)[ANSWER])
    verdict = answer["verdicts"][0]
    verdict["spread"]["seeds_df"] = df
    verdict["method"] = f"paired t, {df} df"
    changed = rewritten(file, tmp_path / "x.zip", {ANSWER: json.dumps(answer).encode()})
    with pytest.raises(BundleError) as found:
        verify_bundle(changed)
    assert ANSWER in found.value.member


@pytest.mark.parametrize("what", ["cells", "levels", "contrasts"])
def test_a_manifest_that_asks_for_more_work_than_there_are_values_is_refused(
    what: str, file: Path, tmp_path: Path
):
    held = contents(file)
    manifest, answer = (json.loads(held[name]) for name in ("bundle.json", ANSWER))
    first = manifest["contrasts"][0]
    cell = first["parts"][0]["cells"][0]
    if what == "cells":
        first["parts"][0]["cells"] = [cell] * 3_000_000
    elif what == "levels":
        first["parts"] = [
            {"name": "level", "level": str(n), "cells": [cell]} for n in range(20_000)
        ]
        first["kind"] = answer["verdicts"][0]["kind"] = "best"
        first["margin"] = answer["verdicts"][0]["margin"] = None
    else:
        said = answer["verdicts"][0]
        manifest["contrasts"] += [{**first, "id": f"x{n}"} for n in range(30_000)]
        answer["verdicts"] += [{**said, "id": f"x{n}"} for n in range(30_000)]
    changes = {
        "bundle.json": json.dumps(manifest).encode(),
        ANSWER: json.dumps(answer).encode(),
    }
    with pytest.raises(BundleError):
        verify_bundle(rewritten(file, tmp_path / "x.zip", changes))


def test_long_numbers_in_text_are_refused():
    assert recomputed.whole("12") == 12
    for text in ("9" * 100_000, "1.5", "", True, 1.5, None):
        with pytest.raises((Bad, ValueError, TypeError)):
            recomputed.whole(text)
