"""Every room that does something by kind of contrast knows every kind."""

from typing import get_args

import pytest

from harness.analysis import estimated_contrasts, kind_words
from harness.bundle.verify import readings
from harness.planning import kinds as planned
from harness.report import kinds as shown
from harness.study import contrasts, kinds
from harness.study.contrast_checks import ContrastChecks
from harness.study.model import Contrast

EVERY = get_args(kinds.ContrastKind)
TABLES = {
    "study": kinds.KINDS,
    "arms": contrasts._KINDS,
    "planning": planned.KINDS,
    "estimates": estimated_contrasts._KINDS,
    "words": kind_words.WORDS,
    "report": shown.KINDS,
    "verifier": readings.KINDS,
}


@pytest.mark.parametrize("table", TABLES)
def test_a_table_has_every_kind(table: str):
    assert sorted(TABLES[table]) == sorted(EVERY)


@pytest.mark.parametrize("kind", EVERY)
def test_a_kind_has_its_key_in_the_study_file_and_its_check(kind: kinds.ContrastKind):
    assert kinds.KINDS[kind].key in Contrast.model_fields
    assert hasattr(ContrastChecks, f"_{kind}")


def test_the_verifier_means_the_same_kinds_by_one_weighted_sum():
    assert set(readings.LINEAR) == set(kinds.kinds_with(lambda traits: traits.linear))
