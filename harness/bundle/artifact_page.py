"""`ARTIFACT.md`: which claim rests on which trials, how to check it, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.model import Verdict
from harness.bundle.contents import OWN, TRAINER, code_files, digested, study_path
from harness.journal.code import changed_files
from harness.journal.command_line import NAME, path_word, typed
from harness.journal.workspace import project_of
from harness.report import facts
from harness.report.results import counting
from harness.text.printable import markdown

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy
    from harness.journal.records import Closed

FILE = "BUNDLE.zip"
"""What the page calls the bundle: its name is the reader's choice."""
MOST_KEYS = 6


def read_me(answered: AnsweredStudy, kinds: list[str], blind: bool) -> str:
    """The page, in the order of an artifact appendix: check, kick the tires, claims, costs."""
    answer, study = answered.answer, study_path(answered)
    quick = _quickest(answered)
    lines = [
        f"# Artifact of the study {answer.study}",
        "",
        f"{markdown(answer.question)} Scope of every claim: "
        f"{markdown(answer.scope) or 'as the study says'}.",
        "",
        f"State: {markdown(answer.headline)}",
        "",
        *_holds(answered, kinds, blind),
        "",
        "## Kick the tires: 30 minutes",
        "",
        f"1. Check the bundle, called {FILE} here, with nothing but Python (3.9 or later), a few "
        "seconds. Only its `verify.py` is run; who has Stillhouse need not run even that: "
        f"`stillhouse bundle --verify {FILE}` checks the same and more.",
        "",
        f"       unzip -p {FILE} verify.py > verify.py && python verify.py {FILE}",
        "",
        "2. Unpack, read `report/report.html` in a browser (it loads nothing), install (some "
        "minutes, most of it the download of PyTorch; 7 GB of disk).",
        "",
        f"       mkdir artifact && unzip -q {FILE} -d artifact && cd artifact/{_home(answered)}",
        "       make env && . .venv/bin/activate",
        *([] if _home(answered) == "code" else ["       cd ../code"]),
        "",
        "3. See what was planned and that its results are known (a second):",
        "",
        f"       {typed('plan', study=study, name=NAME)}",
        "",
    ]
    if quick is not None:
        key, closed = quick
        lines += [
            "4. Run the shortest trial again; it took "
            f"{facts.seconds_in_words(closed.seconds)} then. "
            "Expected: every number beside the recorded one, and a last line that says whether it "
            "reproduced (exit code 0) and, where not, what differs here from what it ran with.",
            "",
            f"       {_reproduce(answered, key, '--level', 'train')}",
            "",
        ]
    return (
        "\n".join([*lines, *_claims(answered), *_depths(answered, kinds), *_surroundings(answered)])
        + "\n"
    )


def _home(answered: AnsweredStudy) -> str:
    """Where Stillhouse is installed from."""
    return "code" if project_of(answered.study.file).resolve() == OWN.resolve() else "stillhouse"


def _holds(answered: AnsweredStudy, kinds: list[str], blind: bool) -> list[str]:
    rows = [
        (
            "`report/`",
            "`report.html`, `report.md`, and tables as CSV, LaTeX and Markdown",
        ),
        ("`results/`", "the journal of the trials that count, the answer, tables"),
        ("`recipes/`", "a resolved recipe per trial; its sha256 begins with the trial's key"),
        ("`trials/`", f"per trial, where kept: {', '.join(kinds)}"),
        ("`environment/`", "versions the trials ran with, and the lock file"),
        ("`code/`", "source, study file and base recipe; `results/` again beside the study"),
    ]
    if _home(answered) != "code":
        rows.append(("`stillhouse/`", "Stillhouse itself"))
    if any(name.startswith(f"{TRAINER}/") for name in digested(answered)):
        what = "the trainer's code, which lies outside the project: the study's `cwd` is its place"
        rows.append((f"`{TRAINER}/`", what))
    rows.append(("`CHECKSUMS`, `verify.py`", "sha256 of every member, and what checks them"))
    lines = ["| here | what |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    if blind:
        lines += ["", "Anonymous: user, host, paths, authors and addresses were taken out."]
    return lines


def _claims(answered: AnsweredStudy) -> list[str]:
    declared = _declared(answered)
    lines = ["## Claims", ""]
    if not declared:
        return [*lines, "The study declares no contrast; its tables are in `report/`.", ""]
    for v in declared:
        seconds, hours, devices = _spent(answered, v)
        keys = " ".join(v.keys[:MOST_KEYS])
        more = f" and {len(v.keys) - MOST_KEYS} more" if len(v.keys) > MOST_KEYS else ""
        lines += [
            f"### {v.id}: {markdown(v.claim or v.metric)}",
            "",
            f"- expected line: {markdown(v.words)}",
            *([f"- on exactly these prompts: {markdown(v.narrow.words)}"] if v.narrow else []),
            f"- trials: {len(v.keys)}, {keys}{more} (all in `results/verdicts.csv`)",
            *_again(answered, v),
            f"- hardware: {markdown(', '.join(devices)) or 'not recorded'}",
            f"- cost of all its trials: {facts.seconds_in_words(seconds)} of wall time, "
            f"{hours:.2f} GPU-hours",
            "",
        ]
    return lines


def _again(answered: AnsweredStudy, verdict: Verdict) -> list[str]:
    """How to run a contrast again; none for what replicates added later say of it."""
    if verdict.id not in {contrast.id for contrast in answered.plan.contrasts}:
        return []
    return [
        f"- command: `{_reproduce(answered, '--contrast', verdict.id)}` runs "
        "the fewest trials that decide it again (`--level tables`: recomputes it only)"
    ]


def _reproduce(answered: AnsweredStudy, *words: str) -> str:
    """With the study file: its results are found there wherever in the project they lie."""
    return typed("reproduce", *words, "--study", path_word(study_path(answered)), name=NAME)


def _declared(answered: AnsweredStudy) -> list[Verdict]:
    return [v for v in answered.answer.verdicts if v.declared]


def _spent(answered: AnsweredStudy, verdict: Verdict) -> tuple[float, float, list[str]]:
    """Wall seconds, GPU-hours and devices of a contrast's trials, as far as they count."""
    seconds = hours = 0.0
    devices: set[str] = set()
    for key in verdict.keys:
        record = answered.history.trials.get(key)
        for attempt in counting(record) if record else ():
            assert attempt.closed is not None
            seconds += attempt.closed.seconds
            hours += attempt.closed.seconds * attempt.closed.gpus / 3600
            devices |= {attempt.opened.device} - {""}
    return seconds, hours, sorted(devices)


def _quickest(answered: AnsweredStudy) -> tuple[str, Closed] | None:
    """Key and record of the trial that took least time."""
    timed = []
    for planned in answered.plan.trials:
        record = answered.history.trials.get(planned.trial.key)
        complete = record.complete if record else None
        if (
            planned.trial.kind == "trial"
            and complete
            and complete.closed
            and complete.closed.state == "done"
        ):
            timed.append((complete.closed.seconds, planned.trial.key, complete.closed))
    return min(timed, key=lambda f: f[:2])[1:] if timed else None


def _depths(answered: AnsweredStudy, kinds: list[str]) -> list[str]:
    answer = answered.answer
    one = facts.seconds_in_words(answer.trial_seconds[1]) if answer.trial_seconds else "not known"
    device = ", ".join(answer.devices) or "a device that was not recorded"
    students = "students are in `trials/`" if "student" in kinds else "no student is in this bundle"
    quick = _quickest(answered)
    key = quick[0] if quick else answered.plan.trials[0].trial.key

    def at_depth(depth: str) -> str:
        return f"`{_reproduce(answered, key, '--level', depth)}`"

    whole = typed("run", "--workspace", "new-workspace", study=study_path(answered), name=NAME)
    rows = [
        ("checked", "seconds", f"`python verify.py {FILE}`"),
        ("hashed again", "seconds", at_depth("record")),
        ("recomputed", "seconds", at_depth("tables")),
        ("measured again", f"part of a trial; {students}", at_depth("measure")),
        ("trained again", f"{one} a trial", at_depth("train")),
        (
            "the whole study",
            f"{facts.seconds_in_words(answer.seconds_all)}, {answer.gpu_hours:.2f} GPU-hours",
            f"`{whole}` without `results/` beside it",
        ),
    ]
    table = ["| rung | price | command |", "|---|---|---|"]
    table += [f"| {a} | {b} | {c} |" for a, b, c in rows]
    caution = (
        f"Any key will do. Prices are what the records took, on {markdown(device)}; other "
        "hardware differs."
    )
    compute = markdown(facts.compute(answer))
    return ["## What each rung costs", "", *table, "", caution, "", compute, ""]


def _surroundings(answered: AnsweredStudy) -> list[str]:
    answer = answered.answer
    names = facts.fingerprints(answered)
    lines = [
        "## Fingerprints",
        "",
        *(f"- {markdown(name)}: {markdown(', '.join(values))}" for name, values in names),
    ]
    now = answered.plan.fingerprints
    for digest, files in code_files(answered).items():
        if digest != now.code:
            changed = changed_files(files, now.code_files)
            what = ", ".join(changed[:20]) + (
                f" and {len(changed) - 20} more" * (len(changed) > 20)
            )
            lines.append(
                f"- note: `code/` is not all of what code digest {digest[:12]} ran: "
                f"{what or 'no listing of its files was kept'}"
            )
    if answer.warnings:
        lines += [
            "",
            "## Warnings of the report",
            "",
            *(f"- {markdown(w)}" for w in answer.warnings),
        ]
    return lines
