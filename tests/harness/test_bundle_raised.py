"""Bundles of studies whose replicates were raised after the first run, and of odd paths."""

import json
import os
from pathlib import Path

import pytest

from harness.bundle.read import verify_bundle
from harness.bundle.verify.recomputed import ANSWER
from harness.commands.opening import answered
from harness.errors import BundleError
from harness.report.page import write_report
from harness.study.load import load_study

from .bundles import STUDY, contents, rewritten, small
from .run_place import Place


def raised(folder: Path, first: int, later: int):
    place = Place(folder)
    for replicates in (first, later):
        made = place.study(STUDY.replace("replicates: 6", f"replicates: {replicates}"), "{}")
        assert place.run(made).exit_code in (0, 1)
    return answered(made.file, place.workspace.root)


@pytest.mark.parametrize(("first", "later"), [(1, 2), (1, 7), (2, 4), (3, 7), (6, 8), (6, 3)])
def test_honest_studies_with_other_replicates_are_bundled(first: int, later: int, tmp_path: Path):
    made = raised(tmp_path / "p", first, later)
    file = small(made, tmp_path / "b.zip")
    assert any(line.startswith("verdicts") for line in verify_bundle(file))
    page = contents(file)["ARTIFACT.md"].decode()
    assert all(v.words in page for v in made.answer.verdicts if v.declared)


@pytest.mark.parametrize("of_all", [False, True])
def test_what_replicates_added_later_say_is_checked_too(of_all: bool, tmp_path: Path):
    file = small(raised(tmp_path / "p", 6, 8), tmp_path / "b.zip")
    answer = json.loads(contents(file)[ANSWER])
    ident = "H1 (8 replicates)" if of_all else "H1"
    verdict = next(v for v in answer["verdicts"] if v["id"] == ident)
    verdict["n_planned"] = 7
    changed = rewritten(file, tmp_path / "x.zip", {ANSWER: json.dumps(answer).encode()})
    with pytest.raises(BundleError, match="judged on 7 replicates"):
        verify_bundle(changed)
    verdict["n_planned"], verdict["difference"] = 8 if of_all else 6, 0.7
    changed = rewritten(file, tmp_path / "x.zip", {ANSWER: json.dumps(answer).encode()})
    with pytest.raises(BundleError, match="difference"):
        verify_bundle(changed)


@pytest.mark.parametrize("way", ["link", "dots"])
def test_report_and_bundle_through_links_and_dots(way: str, tmp_path: Path):
    place = Place(tmp_path / "p")
    plain = place.study(STUDY, "{}")
    if way == "link":
        (tmp_path / "other").symlink_to(place.folder)
        file = tmp_path / "other/study.yaml"
    else:
        (tmp_path / "beside").mkdir()
        file = tmp_path / "beside" / os.pardir / "p" / "study.yaml"
    place.run(load_study(file))
    record = place.history().latest_plan("demo")
    assert record is not None
    assert record.study_file == "study.yaml"
    made = answered(file, place.workspace.root)
    page = write_report(made)
    direct = answered(plain.file, place.workspace.root)
    one = small(made, tmp_path / "one.zip").read_bytes()
    assert one == small(direct, tmp_path / "two.zip").read_bytes()
    assert page.is_file()


def test_a_bundle_holds_no_earlier_bundle_that_lies_beside_the_study(tmp_path: Path):
    place = Place(tmp_path / "p")
    folder = place.folder / "sub"
    folder.mkdir()
    file = folder / "study.yaml"
    file.write_text(place.study(STUDY, "{}").file.read_text())
    place.run(load_study(file))
    made = answered(file, place.workspace.root)
    first = small(made, folder / "demo-bundle.zip").read_bytes()
    assert small(made, tmp_path / "again.zip").read_bytes() == first
