"""Saved views: the exact form MLflow's page reads, found by saving one in its own page."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.pages import PREFIX, VIEWS, changed_by_user, link, saved_views
from tests.harness.mlflow_records import plan_of

HEADLINE = ["score", "cost"]


def _opened(value: str) -> tuple[dict[str, Any], dict[str, Any]]:
    envelope = json.loads(value)
    packed = envelope["state"]
    assert packed.startswith("deflate;")
    return envelope, json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))


def test_four_views_with_the_envelope_the_page_checks() -> None:
    tags = saved_views(plan_of(), HEADLINE)
    assert list(tags) == [PREFIX + v.id for v in VIEWS]
    names = []
    for value in tags.values():
        envelope, _ = _opened(value)
        assert set(envelope) == {"name", "createdAt", "updatedAt", "state"}
        assert isinstance(envelope["createdAt"], int)
        names.append(envelope["name"])
    assert names == ["Arms", "Trials", "Failures", "Training"]


def test_views_never_sort_by_start_time_which_folds_trials_into_one_row() -> None:
    for value in saved_views(plan_of(), HEADLINE).values():
        _, state = _opened(value)
        assert state["orderByKey"] != "attributes.start_time"
        assert state["runsHiddenMode"] == "SHOW_ALL"
        assert state["groupBy"] is None


def test_the_arms_view_shows_metrics_counts_and_factors() -> None:
    _, state = _opened(saved_views(plan_of(), HEADLINE)[PREFIX + VIEWS[0].id])
    shown = state["selectedColumns"]
    assert {"metrics.`score`", "metrics.`cost`", "metrics.`n_done`", "params.`part.x`"} <= {*shown}
    assert state["orderByKey"] == "metrics.`score`"
    assert [c["metricKey"] for c in state["compareRunCharts"]] == HEADLINE


def test_views_fit_the_tag_even_with_many_factors_and_metrics() -> None:
    plan = plan_of().model_copy(
        update={"factors": {f"part.with.a.long.name{i}": ["a", "b"] for i in range(40)}}
    )
    tags = saved_views(plan, [f"group/metric-{i}" for i in range(40)])
    assert len(tags) == 4
    assert max(len(v) for v in tags.values()) <= 20_000


def test_a_view_that_somebody_changed_is_left_alone() -> None:
    name, value = next(iter(saved_views(plan_of(), HEADLINE).items()))
    envelope = json.loads(value)
    assert not changed_by_user(name, value)
    assert changed_by_user(name, json.dumps(envelope | {"updatedAt": envelope["updatedAt"] + 1}))
    assert not changed_by_user("stillhouse.study", "demo")


def test_links_open_a_view_as_model_training() -> None:
    assert link("http://h:1/", "7", VIEWS[3]) == (
        "http://h:1/#/experiments/7/runs?viewStateShareKey=stillhouse-training"
        "&compareRunsMode=CHART&workflowType=machine_learning"
    )


def test_the_installed_page_still_reads_this_form() -> None:
    """The page's code is minified, but its strings are not: a change of format shows here."""
    mlflow = pytest.importorskip("mlflow")
    scripts = Path(mlflow.__file__).parent / "server/js/build/static/js"
    text = "".join(f.read_text() for f in sorted(scripts.glob("*.js")) if f.stat().st_size < 10**7)
    for needle in (
        '"mlflow.sharedViewState."',
        '"viewStateShareKey"',
        '"deflate;"',
        '"compareRunsMode"',
        "Invalid saved-view envelope",
        "workflowType",
        "compareRunSections",
        "runsHiddenMode",
    ):
        assert needle in text, needle
