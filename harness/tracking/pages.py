"""What is made for the eyes on MLflow's pages: saved views, the note, pictures. Imports no mlflow.

A view is the experiment tag `mlflow.sharedViewState.<id>` whose value is a JSON envelope (name,
createdAt, updatedAt, state); `state` is `deflate;` + base64(zlib(JSON of the page's state)).

Pictures and item tables have the layout that the pages read. `MlflowClient.log_image` gives each
upload a random name and costs two transactions, so replaying a journal would double every picture;
these names are the same each time.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.analysis import sentences
from harness.analysis.model import Answer
from harness.journal.pictures import picture_as_shown
from harness.planning.plan import Plan
from harness.text.printable import code, markdown
from harness.tracking.run_write import ORPHAN, TAG, LoggedPicture, shorten

if TYPE_CHECKING:
    from PIL.Image import Image


PREFIX = "mlflow.sharedViewState."
CREATED_MS = 1_767_225_600_000
"""A fixed time: the same study makes the same tags, whenever it runs."""
SECTION = "headline"
LONGEST_TAG = 20_000
WIDTHS = {f"tags.`{TAG}{name}`": width for name, width in (("estimate", 420), ("verdict", 260))}
WIDTHS |= {
    f"tags.`{TAG}{name}`": width for name, width in (("reason", 420), ("key", 160), ("scope", 260))
}


class View(NamedTuple):
    """A saved view: its name in the menu, its id in links, table or charts."""

    name: str
    id: str
    mode: str


VIEWS = (
    View("Arms", "stillhouse-arms", "TABLE"),
    View("Trials", "stillhouse-trials", "TABLE"),
    View("Failures", "stillhouse-failures", "TABLE"),
    View("Training", "stillhouse-training", "CHART"),
)


def link(address: str, experiment_id: str, view: View) -> str:
    """Address that opens the view on a server, with the runs table or the charts."""
    query = f"viewStateShareKey={view.id}&compareRunsMode={view.mode}"
    page = f"{address.rstrip('/')}/#/experiments/{experiment_id}/runs"
    return f"{page}?{query}&workflowType=machine_learning"


def saved_views(plan: Plan, headline: Sequence[str]) -> dict[str, str]:
    """Experiment tags of the four views."""
    factors = [f"params.`{name}`" for name in plan.factors]
    metrics = [f"metrics.`{name}`" for name in headline]
    counts = ["metrics.`n_done`", "metrics.`n_planned`"]
    arm, state = _tag("arm"), _tag("state")
    by_primary = f"metrics.`{plan.primary or (headline[0] if headline else 'n_done')}`"
    kind = f"tags.`{TAG}kind`"
    states = {
        "Arms": _state(
            " AND ".join(f"{kind} != '{k}'" for k in ("trial", "rerun", "study", ORPHAN)),
            [*metrics, *counts, *factors, _tag("verdict"), _tag("estimate"), _tag("scope")],
            by_primary,
            charts=[_bar(name) for name in headline],
            folded=["Model metrics", *sorted({n.split("/")[0] for n in headline if "/" in n})],
        ),
        "Trials": _state(
            f"{kind} = 'trial'",
            [state, *metrics, *factors, _tag("replicate"), _tag("key"), "attributes.`Duration`"],
            arm,
            charts=[_bar(name) for name in headline],
        ),
        "Failures": _state(
            " AND ".join(
                [f"{kind} != '{k}'" for k in ("arm", "study", ORPHAN)]
                + [f"{state} != '{k}'" for k in ("done", "running")]
            ),
            [state, _tag("reason"), *factors, _tag("replicate"), _tag("key"), _tag("host")],
            arm,
            charts=[],
        ),
        "Training": _state(
            f"{kind} = 'trial'",
            [arm, _tag("replicate"), state, *metrics],
            arm,
            charts=[_line(name) for name in headline],
            first_section="train",
        ),
    }
    tags = {PREFIX + view.id: _envelope(view.name, states[view.name]) for view in VIEWS}
    return {name: value for name, value in tags.items() if len(value) <= LONGEST_TAG}


def changed_by_user(tag: str, value: str | None) -> bool:
    """True for a saved view that somebody overrode in the page."""
    if not tag.startswith(PREFIX) or not value:
        return False
    try:
        envelope = json.loads(value)
        return bool(envelope["updatedAt"] != CREATED_MS)
    except (ValueError, KeyError, TypeError):
        return True


def _tag(name: str) -> str:
    return f"tags.`{TAG}{name}`"


def _state(
    condition: str,
    columns: list[str],
    order: str,
    charts: list[dict[str, Any]],
    first_section: str = "",
    folded: Sequence[str] = (),
) -> dict[str, Any]:
    # the page adds a chart for every other metric, to the section named like its prefix
    names = [name for name in (first_section, SECTION, *folded) if name]
    sections = [
        {
            "uuid": f"stillhouse-{name}",
            "name": name,
            "display": name not in folded,
            "isReordered": True,
        }
        for name in names
    ]
    # sorted by anything but the start time, or the page folds trials into their parent's row
    return {
        "searchFilter": condition,
        "orderByKey": order,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {name: width for name, width in WIDTHS.items() if name in columns},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": charts or None,
        "compareRunSections": sections if charts else None,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": bool(charts),
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
    }


def _chart(kind: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": f"stillhouse-{kind.lower()}-{metric}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": f"stillhouse-{SECTION}",
        "deleted": False,
        "isGenerated": False,
        "displayName": metric,
        "metricKey": metric,
    }


def _bar(metric: str) -> dict[str, Any]:
    return _chart("BAR", metric)


def _line(metric: str) -> dict[str, Any]:
    return _chart("LINE", metric) | {
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _envelope(name: str, state: dict[str, Any]) -> str:
    fields = {k: v for k, v in state.items() if v is not None or k == "groupBy"}
    packed = zlib.compress(json.dumps(fields, sort_keys=True).encode(), 9)
    text = "deflate;" + base64.b64encode(packed).decode()
    return json.dumps(
        {"name": name, "createdAt": CREATED_MS, "updatedAt": CREATED_MS, "state": text}
    )


NOTE_LIMIT = 16_000


def note(plan: Plan, answer: Answer | None, command: str) -> str:
    """Markdown; its first line is the state of the answer.

    Args:
        plan: the study's plan.
        answer: None while nothing was analysed yet.
        command: what opens these pages, if no server is running; may be empty.
    """
    declared = [v for v in answer.verdicts if v.declared] if answer else []
    lines = [
        markdown(answer.headline)
        if answer
        else f"Not analysed yet: {len(plan.trials)} trials planned."
    ]
    lines += ["", f"**{markdown(plan.question)}**", ""]
    for verdict in declared:
        symbol = sentences.SYMBOLS[verdict.verdict]
        lines.append(f"- {symbol} **{verdict.id}: {verdict.verdict}.** {markdown(verdict.words)}")
        if claim := sentences.narrower(verdict, answer.scope if answer else ""):
            lines.append(f"  - {markdown(claim)}")
        if verdict.amended:
            lines.append(f"  - Exploratory: {markdown(verdict.amended)}.")
    if plan.scope:
        lines += ["", f"Scope: {markdown(plan.scope)}."]
    if answer and answer.amendments:
        lines += [
            "",
            *(f"- Amended: {markdown(amendment.words)}" for amendment in answer.amendments[:10]),
        ]
    if answer and answer.warnings:
        lines += ["", *(f"- Warning: {markdown(text)}" for text in answer.warnings[:10])]
    lines += [
        "",
        "How to read this page: open **Views** and choose",
        "- *Arms*: one row per arm with its mean; `.lo` and `.hi` are the interval, over what the "
        "tag `stillhouse.scope` says; `n_done` of `n_planned` replicates are in; reference rows "
        "stand beside the arms.",
        "- *Trials*: one row per arm and replicate, by its key.",
        "- *Failures*: what failed, diverged or was stopped, and why.",
        "- *Training*: curves over cycles.",
        "",
        f"The full report is the artifact `report.html` of the run `{plan.study}`. A run's "
        "`stillhouse.key` tag is what `reproduce` takes. Metrics of one checkpoint "
        "are compared within one protocol only: see the tag `stillhouse.protocol`. What "
        f"the verdicts mean, kind by kind: `{sentences.GUIDE}` of Stillhouse.",
    ]
    if command:
        lines += ["", f"These pages: {code(command)}."]
    return shorten("\n".join(lines), NOTE_LIMIT)


THUMBNAIL = 256
"""Pixels of the longer side: what MLflow's grid loads first."""
SMALLEST = 192
"""Smaller pictures are enlarged by whole factors, so that their pixels stay crisp."""
TABLE = "items.json"
TABLE_TAG = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}


def write_pictures(pictures: Iterable[LoggedPicture], folder: Path) -> bool:
    """Write `images/<name>+step+...png` and its thumbnail; True if there was any to show.

    Pictures that do not exist (any longer) are left out.
    """
    any_picture = False
    for picture in {(p.name, p.step): p for p in pictures}.values():
        image = _enlarged(picture.file)
        if image is None:
            continue
        any_picture = True
        mark = uuid.uuid5(uuid.NAMESPACE_URL, f"{picture.name}@{picture.step}")
        name = picture.name.replace("/", "~")
        stem = f"{name}+step+{picture.step}+timestamp+{picture.at_ms}+{mark}"
        target = folder / "images"
        target.mkdir(parents=True, exist_ok=True)
        for older in target.glob(f"*{mark}*"):
            older.unlink()
        image.save(target / f"{stem}.png")
        _thumbnail(image).save(target / f"{stem}+compressed.webp")
    return any_picture


def items_table(rows: Sequence[tuple[str, str, Path]], folder: Path) -> dict[str, bytes | Path]:
    """Files of an `item`, `caption`, `image` table; empty without any picture.

    Args:
        rows: item, caption, PNG file.
        folder: where converted pictures may be kept until they are uploaded.
    """
    files: dict[str, bytes | Path] = {}
    data: list[list[object]] = []
    for item, caption, file in rows:
        image = _enlarged(file)
        if image is None:
            continue
        stem = f"table_images/items/{re.sub(r'[^a-zA-Z0-9_.-]+', '_', item)}"
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, picture in ((".png", image), (".webp", _thumbnail(image))):
            copy = folder / (Path(stem).name + suffix)
            picture.save(copy)
            files[stem + suffix] = copy
        cell = {"type": "image", "filepath": stem + ".png", "compressed_filepath": stem + ".webp"}
        data.append([item, caption, cell])
    if data:
        table = {"columns": ["item", "caption", "image"], "data": data}
        files[TABLE] = json.dumps(table).encode()
    return files


def _enlarged(file: Path) -> Image | None:
    from PIL import Image

    try:
        image = picture_as_shown(file)
    except ValueError:
        return None
    factor = -(-SMALLEST // max(image.size))
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    return image


def _thumbnail(image: Image) -> Image:
    scale = THUMBNAIL / max(image.size)
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
