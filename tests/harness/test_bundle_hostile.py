"""A bundle that asks the verifier for more work than its numbers are worth: refused, no hang."""

import json
import signal
from pathlib import Path

import pytest

from harness import bundle
from harness.bundling import recomputed
from harness.bundling.archive import Bad
from harness.errors import BundleError

from .bundles import STUDY, contents, rewritten, small, studied

ANSWER = "results/answer.json"
HANG_SECONDS = 60


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    text = STUDY.replace("replicates: 6", "replicates: 3")
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


@pytest.mark.parametrize("df", ["900000000001", "9" * 5000, "0", "8"])
def test_degrees_of_freedom_are_counted_not_believed(df: str, file: Path, tmp_path: Path):
    answer = json.loads(contents(file)[ANSWER])
    verdict = next(v for v in answer["verdicts"] if v["method"].startswith("residual variance"))
    verdict["method"] = f"residual variance of arm x replicate (OLS), {df} df"
    changed = rewritten(file, tmp_path / "x.zip", {ANSWER: json.dumps(answer).encode()})
    with pytest.raises(BundleError, match="degrees of freedom") as found:
        bundle.verify(changed)
    assert found.value.member == ANSWER


@pytest.mark.filterwarnings("ignore:.*rank-deficient")
def test_degrees_of_freedom_are_those_of_the_model():
    """Cells less arms less replicates, one back for each part that hangs together."""
    statsmodels = pytest.importorskip("statsmodels.formula.api")
    import pandas

    whole = {("a", "m", r): float(r * r) for r in range(4)}
    whole |= {("b", "m", r): 2.0 * r + 1 for r in range(4)}
    parts = {0: "ab", 1: "ab", 5: "cd", 6: "cd"}
    split = {(arm, "m", r): float(r * ord(arm) % 7) for r, arms in parts.items() for arm in arms}
    holes = {place: v for place, v in whole.items() if place not in (("a", "m", 1),)}
    for values in (whole, split, holes):
        table = pandas.DataFrame([(a, str(r), v) for (a, _, r), v in values.items()])
        table.columns = ["arm", "replicate", "y"]
        fit = statsmodels.ols("y ~ C(arm) + C(replicate)", table).fit()
        squares, df = recomputed.residual(values, "m")
        assert df == fit.df_resid
        assert squares == pytest.approx(fit.ssr)


def test_long_numbers_in_text_are_refused():
    assert recomputed.whole("12") == 12
    for text in ("9" * 100_000, "1.5", "", True, 1.5, None):
        with pytest.raises((Bad, ValueError, TypeError)):
            recomputed.whole(text)
