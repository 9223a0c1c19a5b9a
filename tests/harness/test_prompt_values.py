"""Values by prompt, from a workspace, results and bundles: those of the number that is read."""

import csv
import gzip
import json
import math
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from harness.bundle.blind import scrubbed, traces_of
from harness.bundle.read import extract_bundle, verify_bundle
from harness.bundle.write import write_bundle
from harness.commands.opening import answered
from harness.errors import BundleError
from harness.journal.history import History
from harness.journal.item_table import ItemTable, read_table
from harness.journal.prompt_values import PACKED, PromptTables, Unusable, checked, values_of
from harness.journal.records import Closed
from harness.journal.workspace import Workspace
from harness.report.results import packed, write_results
from harness.reproduce.entry import reproduction

from . import bundles
from .run_place import Place

STUDY = """\
name: demo
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors: {{x: [0.0, 1.0]}}
baseline: {{x: 0.0}}
replicates: 3
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x helps, a: {{x: 1.0}}, b: {{x: 0.0}}, expect: higher}}
  - {{id: H2, a: {{x: 1.0}}, b: {{x: 0.0}}, metric: cost}}
"""
PROTOCOL = "stub-p"


def run(folder: Path, recipe: str = "{}", text: str = STUDY) -> Place:
    place = Place(folder)
    assert place.run(place.study(text, recipe)).exit_code == 0
    return place


def every(history: History, metric: str = "score", **options):
    tables = PromptTables(history)
    return {key: tables.of(key, None, PROTOCOL, metric, **options) for key in history.trials}


def table(text: str, tmp_path: Path, kind: str = "items", metric: str = "m") -> ItemTable | None:
    file = tmp_path / "t.csv"
    file.write_text(text)
    return read_table(file, kind, [metric])


def test_unequal_items_against_numbers_by_hand(tmp_path):
    """Prompt p: items 1, 3; q: item 8 of weight 2; in k mean 20/4 = 5, P = 2, W = 4.

    psi_p = 5 + 2 * 2/4 * (2 - 5) = 2, psi_q = 5 + 2 * 2/4 * (8 - 5) = 8. In l, weights 1, 1, 1:
    mean 4, psi_r = 4 + 2 * 1/3 * (0 - 4) = 4/3, psi_s = 4 + 2 * 2/3 * (6 - 4) = 20/3.
    """
    made = table(
        "item,prompt,stratum,weight,stratum_weight,m,other\n"
        "1,p,k,1,3,1,\n2,p,k,1,3,3,x\n3,q,k,2,3,8,\n"
        "4,r,l,,1,0,\n5,s,l,,1,5,\n6,s,l,,1,7,\n7,s,l,,1,,\n",
        tmp_path,
    )
    found = values_of(made, "m")
    assert found.strata == {"k": 0.75, "l": 0.25}
    assert found.values["k"] == pytest.approx({"p": 2, "q": 8}, rel=1e-14)
    assert found.values["l"] == pytest.approx({"r": 4 / 3, "s": 20 / 3}, rel=1e-14)
    assert found.mean == pytest.approx(0.75 * 5 + 0.25 * 4, rel=1e-14)
    assert not found.pseudo
    assert found.n_prompts == 4
    checked(found, "m", 4.75)
    with pytest.raises(Unusable, match=r"is 4\.75, and 4\.7500001 was reported"):
        checked(found, "m", 4.7500001)


def test_equal_items_are_the_prompts_own_means(tmp_path):
    made = table("item,prompt,m\na,p,1\nb,p,2\nc,q,5\nd,q,-4\n", tmp_path)
    assert values_of(made, "m").values == {"all": pytest.approx({"p": 1.5, "q": 0.5})}


def test_from_a_workspace_the_mean_is_the_metric_and_distances_are_pseudo_values(tmp_path):
    place = run(tmp_path / "p")
    history = place.history()
    for key, found in every(history).items():
        metrics = history.trials[key].measured(PROTOCOL)[-1].metrics
        assert found.mean == pytest.approx(metrics["score"], rel=1e-12)
        assert found.strata == {"hills": 0.75, "signs": 0.25}
        assert {k: len(v) for k, v in found.values.items()} == {"hills": 12, "signs": 12}
        assert not found.pseudo
    for key, found in every(history, "cost").items():
        assert found.pseudo
        assert found.strata == {"hills": 0.5, "signs": 0.5}
        attempt = history.trials[key].complete
        with (
            place.workspace.trial(key) / "attempts" / attempt.folder_name / "prompts-1.csv"
        ).open() as f:
            rows = list(csv.DictReader(f))
        assert [found.values[r["stratum"]][r["prompt"]] for r in rows] == pytest.approx(
            [float(r["cost"]) for r in rows], rel=1e-8
        )


def test_a_workspace_that_was_moved_is_read_where_it_lies(tmp_path):
    place = run(tmp_path / "p")
    then = every(place.history())
    place.workspace.root.rename(tmp_path / "elsewhere")
    history = History.read([Workspace(tmp_path / "elsewhere").journal])
    assert every(history) == then
    assert None not in then.values()


def test_each_measured_step_has_its_own(tmp_path):
    history = run(tmp_path / "p", "{steps: 3}").history()
    for key, known in history.trials.items():
        tables = PromptTables(history)
        for measured in known.measured(PROTOCOL):
            found = tables.of(key, None, PROTOCOL, "score", measured.step)
            assert found.mean == pytest.approx(measured.metrics["score"], rel=1e-12)
        assert tables.of(key, None, PROTOCOL, "score") == tables.of(key, None, PROTOCOL, "score", 3)
        assert tables.of(key, None, PROTOCOL, "score", 4) is None
        assert "not measured at step 4" in tables.why_not(key, None, PROTOCOL, "score", 4)


def exported(place: Place, folder: Path) -> Path:
    made = answered(place.folder / "study.yaml", place.workspace.root)
    write_results(made, folder)
    return folder


def test_results_carry_them_packed_and_the_mean_is_still_exact(tmp_path):
    place = run(tmp_path / "p", "{steps: 2}")
    folder = exported(place, tmp_path / "results")
    again = exported(place, tmp_path / "again")
    assert (folder / PACKED).read_bytes() == (again / PACKED).read_bytes()
    recorded = History.read([folder])
    assert not any(a.closed.artifacts for t in recorded.trials.values() for a in t.ordered)
    for metric in ("score", "cost"):
        whole, packed = every(place.history(), metric), every(recorded, metric)
        assert whole.keys() == packed.keys()
        for key, found in packed.items():
            assert found.pseudo == whole[key].pseudo
            assert found.mean == pytest.approx(whole[key].mean, rel=1e-13)
            for stratum, values in whole[key].values.items():
                assert found.values[stratum] == pytest.approx(values, rel=1e-7)


def test_results_written_from_results_are_the_same_bytes(tmp_path):
    place = run(tmp_path / "p")
    folder = exported(place, tmp_path / "p" / "results")
    first = (folder / PACKED).read_bytes()
    shutil.rmtree(place.workspace.root)
    assert (exported(place, tmp_path / "again") / PACKED).read_bytes() == first


def test_a_bundle_carries_them_and_what_is_unpacked_is_read(tmp_path):
    place = run(tmp_path / "p")
    made = answered(place.folder / "study.yaml", place.workspace.root)
    file = tmp_path / "b.zip"
    write_bundle(made, file)
    extract_bundle(file, tmp_path / "out")
    names = [p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.csv")]
    assert sum("items-1.csv" in n for n in names) == 6
    assert sum("prompts-1.csv" in n for n in names) == 6
    history = History.read([tmp_path / "out" / "results"])
    assert every(history) == every(place.history())
    shutil.rmtree(tmp_path / "out" / "trials")
    for key, found in every(History.read([tmp_path / "out" / "results"])).items():
        assert found.mean == pytest.approx(every(place.history())[key].mean, rel=1e-13)


def test_reproduce_works_from_results_and_from_a_bundle(tmp_path):
    place = run(tmp_path / "p")
    made = answered(place.folder / "study.yaml", place.workspace.root)
    file = tmp_path / "b.zip"
    write_bundle(made, file)
    exported(place, tmp_path / "p" / "results")
    key = next(iter(place.history().trials))
    for source in (str(tmp_path / "p" / "results"), str(file)):
        found = reproduction(
            key,
            workspace=place.workspace,
            depth="tables",
            source=source,
            study=place.folder / "study.yaml",
            echo=lambda _: None,
        )
        assert found.decision == "bit-equal", found.reason


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ("text", "'n/a' is no number"),
        ("twice", "is there twice"),
        ("mean", "the weighted mean of its values of score is"),
    ],
)
def test_a_malformed_table_is_told_in_the_record_and_not_used(tmp_path, tables, why):
    place = run(tmp_path / "p", f"{{tables: {tables}}}")
    history = place.history()
    assert all(found is None for found in every(history).values())
    assert None not in every(history, "cost").values(), "the other table is"
    for key, known in history.trials.items():
        assert known.state == "done"
        told = known.complete.closed.info["items not used"]
        assert told.startswith("items-1.csv: ")
        assert why in told
        assert why in PromptTables(history).why_not(key, None, PROTOCOL, "score")
        assert why in (place.workspace.trial(key) / "log.txt").read_text()
    assert sum("items not used" in line for line in place.said) == 1, "once, not for every trial"


def test_without_tables_the_reason_says_so(tmp_path):
    history = run(tmp_path / "p", "{tables: none}").history()
    for key in history.trials:
        assert PromptTables(history).of(key, None, PROTOCOL, "score") is None
        why = PromptTables(history).why_not(key, None, PROTOCOL, "score")
        assert why == "no table has values of score by item or prompt at step 1"
    assert "has no result" in PromptTables(history).why_not("k0", None, PROTOCOL, "score")
    assert "has no result" in PromptTables(history).why_not(key, None, "other", "score")


def test_one_prompt_has_no_spread(tmp_path):
    history = run(tmp_path / "p", "{prompts: 1}").history()
    for key, known in history.trials.items():
        assert PromptTables(history).of(key, None, PROTOCOL, "score") is None
        assert "one prompt only" in PromptTables(history).why_not(key, None, PROTOCOL, "score")
        assert "items not used" not in known.complete.closed.info, "it is no mistake"


def changed(history: History, key: str, **update) -> None:
    """Another attempt of a trial in the history, after the one there is."""
    attempt = history.trials[key].complete
    opened = {"attempt": attempt.opened.attempt + 1, "nonce": "feedbeef", **update}
    history.add(attempt.opened.model_copy(update=opened))
    closed = attempt.closed.model_dump()
    closed |= {"attempt": opened["attempt"], "nonce": opened["nonce"]}
    for measured in closed["measurements"]:
        measured["metrics"]["score"] += 1
    history.add(Closed.model_validate(closed))


def test_never_those_of_another_attempt(tmp_path):
    place = run(tmp_path / "p")
    folder = exported(place, tmp_path / "results")
    for places in ([place.workspace.journal], [folder]):
        history = History.read(places)
        key = next(iter(history.trials))
        code = history.trials[key].complete.opened.code
        changed(history, key, code="other")
        tables = PromptTables(history)
        assert tables.of(key, "other", PROTOCOL, "score") is None
        assert tables.of(key, None, PROTOCOL, "score") is None, "the latest counts"
        assert tables.of(key, "third", PROTOCOL, "score") is None
        found = tables.of(key, code, PROTOCOL, "score")
        assert found is not None
        seen = PromptTables(history.read_by("demo", {key: code}))
        assert seen.of(key, None, PROTOCOL, "score") == found


def test_a_later_measurement_under_the_protocol_wins(tmp_path):
    place = run(tmp_path / "p")
    history = place.history()
    key = next(iter(history.trials))
    first = history.trials[key].complete
    changed(history, key, mode="measure", student_of=first.opened.nonce)
    tables = PromptTables(history)
    assert tables.of(key, first.opened.code, PROTOCOL, "score") is None
    later = place.workspace.trial(key) / "attempts" / f"{first.opened.attempt + 1}-feedbeef"
    shutil.copytree(later.parent / first.folder_name, later)
    assert "was reported" in PromptTables(history).why_not(key, None, PROTOCOL, "score")
    text = (later / "items-1.csv").read_text().splitlines()
    rows = [line.split(",") for line in text[1:]]
    moved = [",".join([*row[:-1], repr(float(row[-1]) + 1)]) for row in rows]
    (later / "items-1.csv").write_text("\n".join([text[0], *moved]))
    found = PromptTables(history).of(key, first.opened.code, PROTOCOL, "score")
    assert found.mean == pytest.approx(first.closed.measurements[-1].metrics["score"] + 1)


def test_a_table_outside_its_attempt_is_not_read(tmp_path):
    place = run(tmp_path / "p")
    history = place.history()
    key = next(iter(history.trials))
    folder = place.workspace.trial(key) / "attempts" / history.trials[key].complete.folder_name
    (folder / "items-1.csv").rename(tmp_path / "items.csv")
    (folder / "items-1.csv").symlink_to(tmp_path / "items.csv")
    assert PromptTables(history).of(key, None, PROTOCOL, "score") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"no gzip",
        lambda raw: gzip.compress(gzip.decompress(raw).replace(b",mean,", b",other,")),
        lambda raw: gzip.compress(gzip.decompress(raw) + b'a,"b\n'),
        lambda raw: gzip.compress(gzip.decompress(raw).replace(b"hills 1", b"hills 2")),
        lambda raw: gzip.compress(gzip.decompress(raw).replace(b":1.", b":2.")),
        lambda raw: gzip.compress(gzip.decompress(raw).replace(b":1.", b":NaN,")),
        lambda raw: gzip.compress(b"\xff\xfe" + gzip.decompress(raw)),
    ],
)
def test_a_damaged_file_of_results_gives_no_values_and_no_traceback(tmp_path, spoil):
    folder = exported(run(tmp_path / "p"), tmp_path / "results")
    (folder / PACKED).write_bytes(spoil((folder / PACKED).read_bytes()))
    history = History.read([folder])
    assert set(every(history).values()) == {None}
    key = next(iter(history.trials))
    assert PACKED in PromptTables(history).why_not(key, None, PROTOCOL, "score")


def test_packed_rows_are_what_the_page_of_the_format_says(tmp_path):
    folder = exported(run(tmp_path / "p"), tmp_path / "results")
    with gzip.open(folder / PACKED, "rt", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6 * 2 * 2, "trials, metrics, strata"
    row = next(r for r in rows if r["metric"] == "score")
    values = json.loads(row["values"])
    assert json.loads(row["stratum"]) == "hills"
    assert (row["weight"], row["n_prompts"], row["pseudo"]) == ("0.75", "12", "no")
    assert all(len(f"{v:.9g}") >= len(repr(v)) for v in values.values()), "9 digits"
    assert math.fsum(values.values()) / 12 == pytest.approx(float(row["mean"]), rel=1e-8)


def repacked(raw: bytes, change) -> bytes:
    return gzip.compress(change(gzip.decompress(raw)), mtime=0)


@pytest.fixture(scope="module")
def bundled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bundled")
    return bundles.small(bundles.studied(folder / "p", STUDY, "{}"), folder / "b.zip")


def test_the_verifier_reads_them_with_nothing_but_python(bundled):
    """Two metrics of six trials."""
    with zipfile.ZipFile(bundled) as archive:
        archive.extract("verify.py", bundled.parent)
    done = subprocess.run(
        [sys.executable, "-I", str(bundled.parent / "verify.py"), str(bundled)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 measurements have values by prompt" in done.stdout


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda text: text.replace(b",score,", b",other,"),
            "no 'other' of ",
        ),
        (
            lambda text: text.replace(b",0.75,", b",0.5,").replace(b",0.25,", b",0.5,"),
            "the mean of values is .* was measured",
        ),
        (lambda text: text.replace(b",0.75,", b",0.7,"), "do not add up to 1"),
        (lambda text: text.replace(b":1.", b":2."), "another form than it must"),
        (lambda text: text.replace(b":1.", b":NaN,"), "no JSON"),
        (lambda text: text.replace(b",values", b",value"), "its columns are others"),
        (lambda text: text + text.split(b"\n", 1)[1], "a stratum is there twice"),
        (lambda text: text.replace(b'hills 1""', b'hills 2""'), "no JSON"),
        (lambda text: text[:-40], "no JSON that is read here"),
    ],
)
def test_a_bundle_with_other_values_by_prompt_is_refused(bundled, tmp_path, change, why):
    raw = bundles.contents(bundled)[f"results/{PACKED}"]
    told = bundles.rewritten(
        bundled, tmp_path / "b.zip", {f"results/{PACKED}": repacked(raw, change)}
    )
    with pytest.raises(BundleError, match=why):
        verify_bundle(told)


@pytest.mark.parametrize("raw", [b"no gzip", gzip.compress(b"a" * 100)[:-4]])
def test_a_bundle_whose_values_cannot_be_unpacked_is_refused(bundled, tmp_path, raw):
    told = bundles.rewritten(bundled, tmp_path / "b.zip", {f"results/{PACKED}": raw})
    with pytest.raises(BundleError, match=r"cannot be unpacked|cut off"):
        verify_bundle(told)


def test_a_blind_bundle_takes_words_out_of_packed_prompts(tmp_path):
    place = run(tmp_path / "p")
    made = answered(place.folder / "study.yaml", place.workspace.root)
    who = traces_of(made, ["hills"])
    found = scrubbed({f"results/{PACKED}": packed(made)[PACKED]}, who)
    text = gzip.decompress(found[f"results/{PACKED}"])
    assert b"hills" not in text
    assert b"anonymous 1" in text
