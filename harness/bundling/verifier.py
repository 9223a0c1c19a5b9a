"""Checks a Stillhouse bundle with nothing but Python (3.9 or later); runs nothing of the bundle.

    python verify.py BUNDLE.zip

Exit 0 if everything agrees, 1 if something does not. Checked: member names and sizes; CHECKSUMS;
that every stored recipe hashes to its trial's key, and the journal's copy to the same; that states
and values of the answer, and means of values by prompt, are those of the journal; that
differences, p values, intervals and words of the declared contrasts come out of the values again;
that the tables say the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import statistics
import sys
from collections.abc import Callable
from typing import Any

from harness.bundling.archive import Archive, Bad
from harness.bundling.by_prompt import check_by_prompt
from harness.bundling.recomputed import ANSWER, READ_ME, Values, near, verdicts, whole, wrong
from harness.printable import csv_cell

MANIFEST, CHECKSUMS, JOURNAL = "bundle.json", "CHECKSUMS", "results/journal.jsonl"
REPORT = "report/report.html"
SCHEMA = 1
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
SHORTEST = 16
"""Hex digits of a file's sha256 that are enough to call it the same."""
NEEDED = (MANIFEST, CHECKSUMS, JOURNAL, ANSWER, REPORT, READ_ME)


def check(bundle: Archive, tell: Callable[[str], None] = lambda line: None) -> None:
    """All checks, a line told for each.

    Raises:
        Bad: at the first thing that is not as it must be, with its member and line.
    """
    for name in NEEDED:
        if name not in bundle.members:
            raise Bad("it is missing", name)
    tell(f"checksums  {_checksums(bundle)} members are what CHECKSUMS says")
    manifest = bundle.json(MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise Bad(f"its schema must be {SCHEMA}: another version of Stillhouse wrote it", MANIFEST)
    try:
        trials = _trials(bundle)
        tell(f"keys       {len(trials)} stored recipes hash to their keys, as in the journal")
        answer = bundle.json(ANSWER)
        values = _values(answer, trials)
        tell(f"answer     {len(values)} values are those of the journal")
        if count := check_by_prompt(bundle, trials):
            tell(f"prompts    {count} numbers have values by prompt; means are the journal's")
        frozen = _frozen(bundle, answer["study"])
        judged = verdicts(answer, manifest, values, bundle.text(READ_ME), frozen)
        tell(f"verdicts   {judged} come out of the values again (n, difference, p, interval, word)")
        tell(f"tables     {_tables(bundle, answer)} say the same as the answer")
        tell(f"code       {_code(bundle, trials, manifest)}")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, ArithmeticError) as error:
        why = f"something in it has another form than it must ({type(error).__name__}: {error})"
        raise Bad(why[:300], f"{JOURNAL} or {ANSWER}") from error


def _checksums(bundle: Archive) -> int:
    listed = {}
    for number, line in enumerate(bundle.text(CHECKSUMS).split("\n")[:-1], 1):
        digest, _, name = line.partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", digest) or name in listed:
            raise Bad("a line must be a sha256, two blanks, and a member's name", CHECKSUMS, number)
        listed[name] = digest
    for name in sorted(listed.keys() ^ (bundle.members.keys() - {CHECKSUMS})):
        raise Bad("it is a member or in CHECKSUMS, not both", name)
    for name in sorted(listed):
        if bundle.digest(name) != listed[name]:
            raise Bad("its bytes are not those that CHECKSUMS names", name)
    return len(listed)


class Record:
    """What the journal holds about one trial."""

    def __init__(self, trial: dict[str, Any]) -> None:
        self.trial = trial
        self.opened: dict[tuple[int, str], dict[str, Any]] = {}
        self.closed: dict[tuple[int, str], dict[str, Any]] = {}

    def latest(self) -> tuple[int, str] | None:
        """The latest attempt that trained, the one that counts."""
        found = [place for place, record in self.opened.items() if record["mode"] == "train"]
        return max(found, default=None)

    def state(self) -> str:
        """State of the trial as the journal's records say it."""
        place = self.latest()
        if place is None:
            return "pending"
        return str(self.closed[place]["state"]) if place in self.closed else "running"

    def values(self, protocol: str) -> dict[str, Any]:
        """Metrics of the last measured step, those of later measurements in front."""
        first = self.latest()
        by_step: dict[int, dict[str, Any]] = {}
        for place in sorted(self.opened):
            record = self.opened[place]
            later = first is not None and record["mode"] == "measure" and place > first
            if (place == first or later) and record["protocol"] == protocol:
                measured = self.closed.get(place, {}).get("measurements", [])
                by_step.update({m["step"]: m["metrics"] for m in measured})
        return by_step[max(by_step)] if by_step else {}


def _trials(bundle: Archive) -> dict[str, Record]:
    trials: dict[str, Record] = {}
    described: dict[str, dict[str, Any]] = {}
    for number, record in bundle.lines(JOURNAL):
        kind = record.get("type")
        try:
            if kind == "trial":
                described[record["key"]] = dict(record["is"])
            elif kind == "opened":
                key = record["key"]
                trial = {"key": key, **described.get(key, {}), **record["trial"]}
                first = trials.setdefault(key, Record(trial))
                if trial["key"] != key or not _same(_identity(trial), _identity(first.trial)):
                    raise Bad("trial and key do not belong together", JOURNAL, number)
                if not all(re.fullmatch(NAME, str(part)) for part in (key, record["nonce"])):
                    raise Bad("its key or nonce is no identifier", JOURNAL, number)
                content = {"mode": "train", **record}
                first.opened[_number(record["attempt"]), str(record["nonce"])] = content
            elif kind == "closed":
                place = _number(record["attempt"]), str(record["nonce"])
                trials[record["key"]].closed[place] = record
            elif kind not in ("planned", "superseded"):
                raise Bad(f"a record of type {str(kind)[:40]!r} is unknown", JOURNAL, number)
        except (KeyError, TypeError, ValueError) as error:
            why = f"a part of the record is missing or of a wrong type ({error})"[:300]
            raise Bad(why, JOURNAL, number) from error
    _recipes(bundle, trials)
    return trials


def _recipes(bundle: Archive, trials: dict[str, Record]) -> None:
    """Every trial's recipe is stored as it was hashed, and the journal says the same."""
    stored = {n for n in bundle.members if n.startswith("recipes/")}
    for name in sorted(stored ^ {f"recipes/{key}.json" for key in trials}):
        raise Bad("it is stored without an attempt in the journal, or not stored", name)
    for key, known in trials.items():
        name = f"recipes/{key}.json"
        if _key(bundle.read(name), known.trial) != key:
            raise Bad(f"it does not hash to its key {key}", name)
        if not _same(bundle.json(name), _identity(known.trial)):
            raise Bad(f"the journal's recipe of trial {key} is another", name)


def _frozen(bundle: Archive, study: str) -> dict[str, Any]:
    """What the study's first run froze: earlier versions wrote a plan alone; empty without any."""
    plans = [r for _, r in bundle.lines(JOURNAL) if r.get("type") == "planned"]
    first: list[dict[str, Any]] = [
        r.get("frozen") or r for r in plans if r["study"] == study and r["study_json"]
    ]
    known = dict(min(first, key=lambda r: float(r["at"]))["study_json"]) if first else {}
    return known if "factors" in known else {}


def _number(attempt: Any) -> int:
    if isinstance(attempt, bool) or not isinstance(attempt, int):
        raise ValueError(f"attempt {str(attempt)[:40]!r} must be a whole number")
    return attempt


def _identity(trial: dict[str, Any]) -> dict[str, Any]:
    kind, subject = trial.get("kind", "trial"), trial.get("subject", "")
    made = {"key_schema": 2 if subject else 1, "kind": kind, "recipe": trial["recipe"]}
    again = {"rerun": trial["rerun"]} if kind == "rerun" else {}
    who = {"subject": subject} if subject else {}
    return {**made, "replicate": trial["replicate"], "data": trial["data"], **again, **who}


def _key(content: bytes, trial: dict[str, Any]) -> str:
    """Keys of schema 1 were hex digits alone and named no subject."""
    digest = hashlib.sha256(content).hexdigest()
    return f"k{digest[:15]}" if trial.get("subject") else digest[:16]


def _same(one: Any, two: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are one number, true is none."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[k], two[k]) for k in one)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    return isinstance(one, bool) == isinstance(two, bool) and bool(one == two)


def _values(answer: dict[str, Any], trials: dict[str, Record]) -> Values:
    """(arm, metric, replicate) to value of the arms; every cell checked against the journal."""
    found: Values = {}
    for row in answer["arms"]:
        arm, states = row["arm"], row["trial_states"]
        here: dict[str, dict[str, Any]] = {}
        for replicate, key in row["keys"].items():
            record = trials.get(key)
            said, state = states[replicate], record.state() if record else "pending"
            if said != state and not (said == "unmeasured" and state == "done"):
                wrong(f"{arm}, replicate {replicate}: {said} there, {state} in the journal")
            if record and said == "done":
                here[replicate] = record.values(answer["protocol"])
        for metric, cell in row["cells"].items():
            values = {r: m[metric] for r, m in here.items() if m.get(metric) is not None}
            if values != cell["values"] or len(values) != cell["n"]:
                wrong(f"{arm}, {metric}: its values are not the journal's")
            near(cell["mean"], statistics.fmean(values.values()) if values else None, arm, metric)
            if row["kind"] == "arm":
                found.update({(arm, metric, whole(r)): v for r, v in values.items()})
    return found


def _tables(bundle: Archive, answer: dict[str, Any]) -> int:
    shown = ("id", "verdict", "difference", "lo", "hi", "p")
    _rows(bundle, "verdicts", shown, [[v[c] for c in shown] for v in answer["verdicts"]])
    metrics = list(answer["metrics"])
    arms = [[r["arm"], *(r["cells"][m]["mean"] for m in metrics)] for r in answer["arms"]]
    _rows(bundle, "arms", ("arm", *metrics), arms)
    trials = [
        [key, row["arm"], *(row["cells"][m]["values"].get(replicate) for m in metrics)]
        for row in answer["arms"]
        for replicate, key in row["keys"].items()
    ]
    _rows(bundle, "trials", ("key", "arm", *metrics), trials)
    return 3


def _rows(bundle: Archive, table: str, columns: tuple[str, ...], expected: list[list[Any]]) -> None:
    name = f"results/{table}.csv"
    try:
        rows = list(csv.reader(io.StringIO(bundle.text(name), newline="")))
    except csv.Error as error:
        raise Bad(f"it is no table ({error})", name) from error
    heads = {head: i for i, head in enumerate(rows[0])} if rows else {}
    columns = tuple(c if c in heads else csv_cell(c) for c in columns)
    if len(rows) != len(expected) + 1 or any(c not in heads for c in columns):
        raise Bad("its rows or columns are not the answer's", name)
    for number, (row, values) in enumerate(zip(rows[1:], expected), 2):  # noqa: B905
        said = [row[heads[c]] for c in columns]
        plain = ["" if v is None else str(v) for v in values]
        if said not in (plain, [str(csv_cell(v)) for v in values]):
            raise Bad("a row is not the answer's", name, number)
    copy = f"report/tables/{table}.csv"
    if copy in bundle.members and bundle.digest(copy) != bundle.digest(name):
        raise Bad(f"it is not {name}", copy)


def _code(bundle: Archive, trials: dict[str, Record], manifest: dict[str, Any]) -> str:
    """How many source files are those that the trials ran with: a fact, not a fault.

    Digests in the journal are the subject's own. Where they are not of a file's bytes, only the
    subject can compare: then what the bundle's maker found is told, if these are the bytes it saw.
    """
    listed: dict[str, set[str]] = {}
    for record in trials.values():
        for opened in record.opened.values():
            for name, digest in opened.get("code_files", {}).items():
                listed.setdefault(name, set()).add(digest)
    sources = manifest.get("sources", {})
    sums: dict[str, str] = {}
    by_file: dict[str, list[str]] = {}
    for name, digests in listed.items():
        file = name.partition("#")[0]  # `file#name` is a definition in a file
        about = sources.get(name, {})
        if about.get("member") != "":  # listed, but no file: environment variables
            by_file.setdefault(file, []).append(_same_source(bundle, name, digests, about, sums))
    if not by_file:
        return "the journal lists no source files"
    plain = sum(set(found) == {"bytes"} for found in by_file.values())
    told = sum("" not in found for found in by_file.values()) - plain
    said = f"{plain + told} of {len(by_file)} source files are those that the trials ran with"
    if told:
        said += f" ({plain} by their bytes, {told} by the subject's digests when it was bundled)"
    return said


def _same_source(
    bundle: Archive, name: str, digests: set[str], about: dict[str, Any], sums: dict[str, str]
) -> str:
    """Whether an archived file is what every trial ran: `bytes`, `told`, or empty for not."""
    known = [about.get("member"), f"code/{name}", f"stillhouse/{name}"]
    held = next((n for n in known if n in bundle.members), "")
    if not held:
        return ""
    if held not in sums:  # many names may stand for one large member
        sums[held] = bundle.digest(held)
    found = sums[held]
    if all(len(d) >= SHORTEST and found.startswith(d) for d in digests):
        return "bytes"
    told = digests <= set(about.get("digests", ())) and found == about.get("sha256")
    return "told" if told else ""


def main(words: list[str]) -> int:
    """Command line: the path of a bundle."""
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__)
        return 0 if words[:1] in (["-h"], ["--help"]) else 1
    try:
        with Archive(words[0]) as bundle:
            check(bundle, print)
    except Bad as error:
        print(f"FAILED     {error}")
        return 1
    print(
        "verified   keys, records, items, tables and verdicts agree, and all bytes with CHECKSUMS"
    )
    print("           (not compared with records: the pages of the report, source beyond `code`)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
