"""Values of a trial's metrics prompt by prompt: what claims over prompts are made of.

They follow the same address as numbers do (key, protocol, code; a later measurement of the same
student wins), and are of the very attempt whose number is read: from the tables it wrote, wherever
its workspace lies now, or from `results/prompts.csv.gz` of a recorded study or a bundle.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.contract import Artifact, MetricSpec, Report
from harness.journal.history import Attempt, History
from harness.journal.item_table import KINDS, NOT_USED, ItemTable, Kind, TableError, read_table
from harness.journal.records import MeasuredAt
from harness.text.printable import csv_cell, printable

PACKED = "prompts.csv.gz"
"""Beside a compact journal: values by prompt of the attempts in it."""
HEAD = (
    *("key", "nonce", "step", "metric", "stratum"),
    *("weight", "n_prompts", "pseudo", "mean", "values"),
)
DIGITS = 9
"""Of values in `PACKED`; the mean beside them has all of its digits."""
MOST_PACKED_BYTES = 2**29
LONGEST_CELL = 2**25
MOST_KEPT_CELLS = 10**7
"""Cells of tables that are kept in memory, 8 bytes each."""
EQUAL = 1e-9
"""Relative difference up to which the mean of values is the recorded metric."""
ROUNDING = 1e-12
"""The same relative to the largest value: what is lost where values cancel."""


class Unusable(ValueError):
    """Why there are no values by prompt."""


@dataclass(frozen=True)
class PromptValues:
    """One metric of one measurement, by stratum and prompt.

    Attributes:
        strata: stratum -> weight; they add up to 1.
        values: stratum -> prompt -> value. For a mean of items they are linearised, so that the
            weighted mean over strata of the means over prompts is the metric, however many items a
            prompt has. For a distance, pseudo-values: their mean is the jackknife's estimate,
            corrected for bias, and not the distance itself.
        pseudo: whether these are pseudo-values of a distance.
        sizes: stratum -> prompt -> how many prompts stand behind a value, where prompts were left
            out in groups; else empty.
    """

    strata: Mapping[str, float]
    values: Mapping[str, Mapping[str, float]]
    pseudo: bool = False
    sizes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """The weighted mean over strata of the means over prompts."""
        return math.fsum(w * _mean(self.values[k].values()) for k, w in self.strata.items())

    @property
    def n_prompts(self) -> int:
        """Prompts behind the values."""
        sizes = (self.sizes.get(k, {}).get(p, 1) for k, of in self.values.items() for p in of)
        return sum(sizes)


class PromptTables:
    """Finds values by prompt of the trials of a history. Reads lazily and keeps what it read.

    Values have the digits of `PACKED` wherever they are read from, so that a workspace, recorded
    results and a bundle give one answer.
    """

    def __init__(self, history: History) -> None:
        """Take a history as its reader sees it (`History.read_by` for what one study reads)."""
        self.history = history
        self._kept: dict[Path, ItemTable | None] = {}
        self._cells = 0
        self._read: dict[tuple[str, str, int, str], PromptValues | str] = {}
        self._packed: dict[Path, _Packed] = {}

    def of(
        self, key: str, code: str | None, protocol: str, metric: str, step: int | None = None
    ) -> PromptValues | None:
        """Values of a trial's metric.

        Args:
            key: of the trial.
            code: code digest of the result; None for the one that counts in this history.
            protocol: its fingerprint.
            metric: its name.
            step: at which it was measured; None for the last one.

        Returns:
            the values; None where there are none: `why_not` says why.
        """
        try:
            return self.of_attempt(*self._measured(key, code, protocol, step), metric)
        except Unusable:
            return None

    def why_not(
        self, key: str, code: str | None, protocol: str, metric: str, step: int | None = None
    ) -> str:
        """Why `of` gives None; empty where it does not."""
        try:
            self.of_attempt(*self._measured(key, code, protocol, step), metric)
        except Unusable as error:
            return str(error)
        return ""

    def _measured(
        self, key: str, code: str | None, protocol: str, step: int | None
    ) -> tuple[Attempt, MeasuredAt]:
        record = self.history.trials.get(key)
        if record is not None and code is not None:
            record = record.read_by(None, code)
        by_step = record.measured_by(protocol) if record is not None else {}
        if not by_step:
            raise Unusable(f"trial {key} has no result under this protocol and code")
        last = max(by_step) if step is None else step
        if last not in by_step:
            raise Unusable(f"trial {key} was not measured at step {last}")
        return by_step[last]

    def of_attempt(self, attempt: Attempt, measured: MeasuredAt, metric: str) -> PromptValues:
        """Values of one measurement.

        Raises:
            Unusable: there are none.
        """
        opened = attempt.opened
        place = (opened.key, opened.nonce, measured.step, metric)
        if place not in self._read:
            try:
                self._read[place] = self._found(attempt, measured, metric)
            except Unusable as error:
                self._read[place] = str(error)
        prompt_values = self._read[place]
        if isinstance(prompt_values, str):
            raise Unusable(prompt_values)
        return prompt_values

    def _found(self, attempt: Attempt, measured: MeasuredAt, metric: str) -> PromptValues:
        value = measured.metrics.get(metric)
        if value is None:
            raise Unusable(f"{printable(metric)} was not measured at step {measured.step}")
        whole, reasons = self._of_tables(attempt, measured, metric, value)
        if whole is not None:  # the same numbers as from `PACKED`, wherever they are read
            return _unpacked(_packed(("", "", "", ""), whole))
        for packed in self._all_packed():
            try:
                rows = packed.rows(attempt, measured.step, metric)
                if rows:
                    return enough(checked(_unpacked(rows), metric, value))
            except Unusable as error:
                reasons.append(f"{PACKED}: {error}")
        nothing = f"no table has values of {printable(metric)} by item or prompt at step "
        raise Unusable("; ".join(reasons) or f"{nothing}{measured.step}")

    def _of_tables(
        self, attempt: Attempt, measured: MeasuredAt, metric: str, value: float
    ) -> tuple[PromptValues | None, list[str]]:
        """Values with all their digits from the attempt's own tables, or why there are none."""
        reasons = []
        for file, kind in self._tables(attempt, measured.step):
            try:
                table = self._table(file, kind, measured)
                if table is not None and metric in table.values:
                    return enough(checked(values_of(table, metric), metric, value)), []
            except (TableError, Unusable) as error:
                reasons.append(f"{kind} of step {measured.step}: {error}")
        return None, reasons

    def _table(self, file: Path, kind: Kind, measured: MeasuredAt) -> ItemTable | None:
        """A file's table, kept for other metrics while there is room."""
        if file not in self._kept:
            table = read_table(file, kind, measured.metrics)
            self._cells += _cells(table)
            while self._kept and self._cells > MOST_KEPT_CELLS:
                self._cells -= _cells(self._kept.pop(next(iter(self._kept))))
            self._kept[file] = table
        return self._kept[file]

    def _tables(self, attempt: Attempt, step: int) -> Iterator[tuple[Path, Kind]]:
        """Files of an attempt's tables at a step that are there, items first."""
        closed = attempt.closed
        if closed is None:
            return
        last = max((m.step for m in closed.measurements), default=0)
        for kind in KINDS:
            for artifact in closed.artifacts:
                at = last if artifact.step is None else artifact.step
                if artifact.kind == kind and at == step:
                    file = self._file(attempt, artifact)
                    if file is not None:
                        yield file, kind

    def _file(self, attempt: Attempt, artifact: Artifact) -> Path | None:
        inside = Path("trials", attempt.opened.key, "attempts", attempt.folder_name)
        for folder in self.history.described:
            home = folder.parent / inside
            file = (home / artifact.path).with_suffix(".csv")
            try:
                if file.is_file() and file.resolve().is_relative_to(home.resolve()):
                    return file
            except (OSError, ValueError):
                continue
        return None

    def _all_packed(self) -> Iterator[_Packed]:
        for folder in self.history.described:
            if folder not in self._packed:
                self._packed[folder] = _Packed(folder / PACKED)
            yield self._packed[folder]

    def packed_rows(
        self, attempt: Attempt, measured: MeasuredAt, metric: str
    ) -> list[tuple[str, ...]]:
        """Rows of `PACKED` for one measurement; none where there are no values.

        What was read from such a file goes on as it stood there.
        """
        value = measured.metrics.get(metric)
        if value is None:
            return []
        prompt_values, _ = self._of_tables(attempt, measured, metric, value)
        if prompt_values is not None:
            return rows_of(attempt, measured, metric, prompt_values)
        try:
            self.of_attempt(attempt, measured, metric)
        except Unusable:
            return []
        listed = (packed.rows(attempt, measured.step, metric) for packed in self._all_packed())
        return next((rows for rows in listed if rows), [])


def _cells(table: ItemTable | None) -> int:
    return len(table.prompts) * (5 + len(table.values)) if table is not None else 0


def values_of(table: ItemTable, metric: str) -> PromptValues:
    """Values by prompt of one column.

    Raises:
        Unusable: it holds no number.
    """
    rows: dict[str, list[tuple[str, float, float, int]]] = {}
    columns = zip(
        table.strata, table.prompts, table.weights, table.values[metric], table.sizes, strict=True
    )
    for stratum, prompt, weight, value, size in columns:
        if not math.isnan(value):
            rows.setdefault(stratum, []).append((prompt, weight, value, size))
    if not rows:
        raise Unusable(f"no number of {printable(metric)} in it")
    try:
        total = math.fsum(table.stratum_weights[stratum] for stratum in rows)
        strata = {stratum: table.stratum_weights[stratum] / total for stratum in rows}
        if table.kind == "prompts":
            values = {k: {p: v for p, _, v, _ in own} for k, own in rows.items()}
        else:
            values = {k: _linearised(own) for k, own in rows.items()}
    except (OverflowError, ValueError):
        raise Unusable(f"the numbers of {printable(metric)} in it are too large to add") from None
    sizes = {k: {p: n for p, _, _, n in own if n > 1} for k, own in rows.items()}
    grouped = {stratum: of for stratum, of in sizes.items() if of}
    return PromptValues(strata, values, table.kind == "prompts", grouped)


def _linearised(rows: Iterable[tuple[str, float, float, int]]) -> dict[str, float]:
    """Value of each prompt, ybar + (P w_p / W) (m_p - ybar): their mean is that of all items, ybar.

    m_p is the weighted mean of a prompt's items, w_p their weight, W all weight, P the prompts.
    """
    weights: dict[str, list[float]] = {}
    parts: dict[str, list[float]] = {}
    for prompt, weight, value, _ in rows:
        weights.setdefault(prompt, []).append(weight)
        parts.setdefault(prompt, []).append(weight * value)
    weight_of = {p: math.fsum(w) for p, w in weights.items()}
    sum_of = {p: math.fsum(s) for p, s in parts.items()}
    whole = math.fsum(weight_of.values())
    # A weighted mean over items is a ratio of two totals as soon as prompts have different numbers
    # of items; this is its linearisation (Taylor's, as in survey sampling). With equal weights it
    # is m_p.
    middle = math.fsum(sum_of.values()) / whole
    scale = len(weight_of) / whole
    return {p: middle + scale * (sum_of[p] - w * middle) for p, w in weight_of.items()}


def checked(prompt_values: PromptValues, metric: str, value: float) -> PromptValues:
    """The values, if their mean is the recorded metric; pseudo-values need only be finite.

    Raises:
        Unusable: it is another, or not finite.
    """
    try:
        mean = prompt_values.mean
    except (OverflowError, ValueError):  # infinities of both signs
        mean = math.inf
    largest = max(abs(v) for of in prompt_values.values.values() for v in of.values())
    if not math.isfinite(mean) or not math.isfinite(largest):
        raise Unusable("its values are too large to add")
    if not prompt_values.pseudo and abs(mean - value) > EQUAL * abs(value) + ROUNDING * largest:
        raise Unusable(
            f"the weighted mean of its values of {printable(metric)} is {mean:.10g}, and "
            f"{value:.10g} was reported: a metric is the mean over strata of the means of its items"
        )
    return prompt_values


def enough(prompt_values: PromptValues) -> PromptValues:
    """The values, if every stratum has at least two prompts.

    Raises:
        Unusable: one of them has a single one, which has no spread.
    """
    for stratum, of in prompt_values.values.items():
        if len(of) < 2:
            raise Unusable(f"stratum {stratum!r} has one prompt only: a spread needs two")
    return prompt_values


def complaints(
    folder: Path, report: Report, declared: Mapping[str, MetricSpec] | None
) -> dict[str, str]:
    """Why tables that a report names will not be used, as facts for the attempt's record.

    Args:
        folder: of the attempt.
        report: what a subject yielded.
        declared: its metrics.
    """
    names = dict.fromkeys([*(declared or {}), *report.metrics])
    metrics = report.metrics if report.measured else {}
    facts: dict[str, str] = {}
    for kind in KINDS:
        for artifact in report.artifacts:
            if artifact.kind != kind:
                continue
            try:
                table = read_table(folder / artifact.path, kind, names)
                for name in metrics.keys() & table.values.keys() if table is not None else ():
                    assert table is not None
                    if any(not math.isnan(v) for v in table.values[name]):
                        checked(values_of(table, name), name, metrics[name])
            except (TableError, Unusable) as error:
                facts[NOT_USED[kind]] = f"{printable(artifact.path)[:200]}: {error}"
    return facts


# ---- rows of PACKED


def packed_text(rows: Iterable[tuple[str, ...]]) -> bytes:
    """The file's bytes; the same rows give the same bytes."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    writer.writerows(rows)
    return gzip.compress(out.getvalue().encode(), 9, mtime=0)


def rows_of(
    attempt: Attempt, measured: MeasuredAt, metric: str, prompt_values: PromptValues
) -> list[tuple[str, ...]]:
    """Values of one measurement as rows, one a stratum."""
    opened = attempt.opened
    return list(_packed((opened.key, opened.nonce, str(measured.step), metric), prompt_values))


def all_rows(file: Path) -> list[tuple[str, ...]]:
    """Every row of a packed file; none where it is not there, or damaged."""
    try:
        return [row for rows in _Packed(file).by_place().values() for row in rows]
    except Unusable:
        return []


def _packed(
    place: tuple[str, str, str, str], prompt_values: PromptValues
) -> Iterator[tuple[str, ...]]:
    """A row a stratum; of a group of prompts, how many it stands for beside its value."""
    key, nonce, step, metric = place
    for stratum in sorted(prompt_values.strata):
        of, sizes = prompt_values.values[stratum], prompt_values.sizes.get(stratum, {})
        values = {
            name: [float(f"{of[name]:.{DIGITS}g}"), sizes[name]]
            if name in sizes
            else float(f"{of[name]:.{DIGITS}g}")
            for name in sorted(of)
        }
        yield (
            key,
            nonce,
            step,
            str(csv_cell(metric)),
            json.dumps(stratum, ensure_ascii=False),
            repr(prompt_values.strata[stratum]),
            str(sum(sizes.get(name, 1) for name in of)),
            "yes" if prompt_values.pseudo else "no",
            repr(_mean(of.values())),
            json.dumps(values, ensure_ascii=False, separators=(",", ":")),
        )


def _unpacked(rows: Iterable[tuple[str, ...]]) -> PromptValues:
    """Values from rows of one metric; moved by what rounding took, so that the mean is exact."""
    strata: dict[str, float] = {}
    values: dict[str, dict[str, float]] = {}
    sizes: dict[str, dict[str, int]] = {}
    pseudo: set[bool] = set()
    try:
        for row in rows:
            cells = dict(zip(HEAD, row, strict=True))
            stratum, content = json.loads(cells["stratum"]), json.loads(cells["values"])
            if not isinstance(stratum, str) or stratum in strata or not content:
                raise Unusable("a stratum is there twice, or has no values")
            of = {name: _plain(v[0] if isinstance(v, list) else v) for name, v in content.items()}
            grouped = {name: _whole(v[1]) for name, v in content.items() if isinstance(v, list)}
            mean, strata[stratum] = _plain(float(cells["mean"])), _plain(float(cells["weight"]))
            moved = mean - _mean(of.values())
            if strata[stratum] <= 0 or abs(moved) > 10 * 10.0**-DIGITS * max(map(abs, of.values())):
                raise Unusable("a weight is not above 0, or a mean is not that of its values")
            values[stratum] = {name: value + moved for name, value in of.items()}
            if grouped:
                sizes[stratum] = grouped
            pseudo.add({"yes": True, "no": False}[cells["pseudo"]])
        (one,) = pseudo
    except Unusable:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        raise Unusable(f"a row has another form than it must ({type(error).__name__})") from None
    except RecursionError:
        raise Unusable("a row is nested too deep") from None
    if abs(math.fsum(strata.values()) - 1) > 1e-9:
        raise Unusable("the weights of its strata do not add up to 1")
    return PromptValues(strata, values, one, sizes)


def _plain(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(value)
    return value


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


class _Packed:
    """A file of packed values, its rows by measurement; read at the first question."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._rows: dict[tuple[str, str, str, str], list[tuple[str, ...]]] | None = None
        self._problem = ""

    def rows(self, attempt: Attempt, step: int, metric: str) -> list[tuple[str, ...]]:
        """Rows of one measurement's metric; none where there are none.

        Raises:
            Unusable: the file is damaged.
        """
        opened = attempt.opened
        place = (opened.key, opened.nonce, str(step), str(csv_cell(metric)))
        return self.by_place().get(place, [])

    def by_place(self) -> dict[tuple[str, str, str, str], list[tuple[str, ...]]]:
        """Rows by key, nonce, step and metric.

        Raises:
            Unusable: the file is damaged.
        """
        if self._rows is None:
            self._rows = {}
            try:
                self._load()
            except Unusable as error:
                self._problem = str(error)
        if self._problem:
            raise Unusable(self._problem)
        return self._rows

    def _load(self) -> None:
        assert self._rows is not None
        if not self.file.is_file():
            return
        try:
            with gzip.open(self.file) as stream:
                content = stream.read(MOST_PACKED_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise Unusable(f"it cannot be unpacked ({type(error).__name__})") from None
        if len(content) > MOST_PACKED_BYTES:
            raise Unusable(f"it unpacks to more than {MOST_PACKED_BYTES // 2**20} MiB")
        # The limit is the process's: it is put back.
        before = csv.field_size_limit(LONGEST_CELL)
        try:
            rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
            if tuple(next(rows, [])) != HEAD:
                raise Unusable("its columns are others: another version wrote it")
            for row in rows:
                self._rows.setdefault((row[0], row[1], row[2], row[3]), []).append(tuple(row))
        except (csv.Error, UnicodeDecodeError, IndexError) as error:
            self._rows.clear()
            raise Unusable(f"it is no table ({type(error).__name__})") from None
        finally:
            csv.field_size_limit(before)
