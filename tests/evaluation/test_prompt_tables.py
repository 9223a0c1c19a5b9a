"""Values by prompt: means are the metrics, pseudo-values those of measuring without a prompt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from evaluation.frechet import Gaussian, frechet_distance, gaussian_distance
from evaluation.items import Item
from evaluation.kernel import cmmd, gaussian_rbf, kernel_distance, polynomial
from evaluation.matrices import unit_rows
from evaluation.measure import Measured
from evaluation.prompt_tables import (
    GROUPS,
    Compared,
    caption_name,
    frechet_pseudo_values,
    item_table,
    kernel_pseudo_values,
    prompt_name,
    pseudo_value_table,
    tables_of,
)
from evaluation.protocol import Protocol, load_protocol
from evaluation.summary import MEANS, summarise
from evaluation.world import World, load_world
from evaluation.writers import write_by_prompt
from tests.evaluation.fake_world import YAML_TEXT, fake_protocol

Rows = NDArray[np.float64]
RNG = np.random.default_rng(5)
PROMPTS = 5


def made(rows: int, width: int, shift: float = 0.0) -> tuple[Rows, list[str]]:
    """Features with an effect of the prompt, and prompts of unequal numbers of rows."""
    prompt = np.sort(RNG.integers(0, PROMPTS, rows))
    prompt[: 2 * PROMPTS] = np.repeat(np.arange(PROMPTS), 2)
    effects = RNG.normal(size=(PROMPTS, width))
    x = RNG.normal(size=(rows, width)) + 0.7 * effects[prompt] + shift
    return x, [f"prompt {p}" for p in prompt]


def brute(
    distance: Callable[[Rows, Rows], float], x: Rows, xp: list[str], y: Rows, yp: list[str] | None
) -> dict[str, float]:
    """P D - (P - 1) D without the prompt, from the public distance alone."""
    names = sorted(set(xp))
    whole = distance(x, y)
    found = {}
    for name in names:
        kept = y if yp is None else y[[p != name for p in yp]]
        without = distance(x[[p != name for p in xp]], kept)
        found[name] = len(names) * whole - (len(names) - 1) * without
    return found


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("rows", "width"), [(60, 4), (23, 20), (18, 40)])
def test_frechet_pseudo_values_are_those_of_fitting_again(
    rows: int, width: int, shared: bool
) -> None:
    (x, xp), (y, yp) = made(rows, width), made(3 * rows, width, 0.3)
    among = yp if shared else None
    found, sizes = frechet_pseudo_values(Compared(x, xp, y, among), Gaussian.from_features(y))
    assert found == pytest.approx(brute(frechet_distance, x, xp, y, among), rel=1e-9, abs=1e-9)
    assert not sizes


@pytest.mark.parametrize("shared", [False, True])
def test_kernel_pseudo_values_are_those_of_measuring_again(shared: bool) -> None:
    (x, xp), (y, yp) = made(40, 8), made(90, 8, 0.3)
    among = yp if shared else None
    for kernel in (polynomial, gaussian_rbf):
        found = kernel_pseudo_values(Compared(x, xp, y, among), kernel)
        again = brute(lambda a, b, k=kernel: kernel_distance(a, b, k), x, xp, y, among)  # type: ignore[misc]
        assert found == pytest.approx(again, rel=1e-9, abs=1e-11)


def test_a_student_whose_pictures_are_alike_has_pseudo_values() -> None:
    x = np.ones((30, 4))
    x[:, 0] = np.arange(30) % 2
    xp = [f"p{i % 3}" for i in range(30)]
    y = RNG.normal(size=(50, 4))
    found, _ = frechet_pseudo_values(Compared(x, xp, y), Gaussian.from_features(y))
    assert found == pytest.approx(brute(frechet_distance, x, xp, y, None), rel=1e-6)


def test_many_prompts_leave_in_groups_and_every_trial_has_the_same_groups() -> None:
    count, width = 210, 3
    prompts = [f"prompt {i:03d}" for i in range(count)]
    x, y = RNG.normal(size=(count, width)), RNG.normal(size=(400, width))
    reference = Gaussian.from_features(y)
    found, sizes = frechet_pseudo_values(Compared(x, prompts, y), reference)
    assert len(found) == GROUPS
    assert sum(sizes.values()) == count
    assert set(sizes.values()) == {8, 9}
    group_P = np.random.default_rng(0).permutation(np.arange(count) % GROUPS)
    first = gaussian_distance(Gaussian.from_features(x[group_P != 0]), reference)
    whole = frechet_distance(x, y)
    assert found["group 01 of 24"] == pytest.approx(GROUPS * whole - (GROUPS - 1) * first)
    order = RNG.permutation(count)
    again, _ = frechet_pseudo_values(Compared(x[order], [prompts[i] for i in order], y), reference)
    assert again == pytest.approx(found, rel=1e-9)
    wide = RNG.normal(size=(30, 600))
    few, sizes = frechet_pseudo_values(
        Compared(wide, prompts[:30], wide + 1), Gaussian.from_features(wide + 1)
    )
    assert len(few) == GROUPS
    assert set(sizes.values()) == {1, 2}


def test_the_mean_of_items_is_the_metric(good: Measured, world: World) -> None:
    table = item_table(good.items, world.items)
    assert table["item"].is_unique
    for metric in MEANS.keys() & good.metrics.keys():
        means = table.groupby("stratum")[metric].mean().dropna()
        assert means.mean() == pytest.approx(good.metrics[metric], rel=1e-12), metric
    assert {"t2i/clip", "edit/fidelity", "more/diversity"} <= set(table.columns)


def _whole(measured: Measured, world: World, protocol: Protocol, **known: Any) -> pd.DataFrame:
    references = {c: world.reference(c, 40) for c in protocol.items.t2i}
    return pseudo_value_table(measured.items, measured.features, world.items, references, **known)


def test_pseudo_values_of_a_measurement(good: Measured, world: World, protocol: Protocol) -> None:
    """Against the public distances, the teacher's rows of a prompt leaving with it."""
    teacher = {c: RNG.normal(size=(24, 6)) for c in protocol.items.t2i}
    found = _whole(good, world, protocol, teacher=teacher).set_index(["stratum", "prompt"])
    first = good.items[(good.items["task"] == "t2i") & (good.items["draw"] == 0)]
    metrics, _ = summarise(
        good.items,
        good.features,
        {c: world.reference(c, 40) for c in protocol.items.t2i},
        protocol,
        teacher,
    )
    wholes = dict.fromkeys(
        ("t2i/fid", "t2i/kd", "more/cmmd", "t2i/fid_teacher", "more/kd_teacher"), 0.0
    )
    for category in protocol.items.t2i:
        rows = first[first["category"] == category]
        x = good.features["t2i/features"][rows.index].astype(float)
        clip = good.features["t2i/clip"][rows.index].astype(float)
        reference = world.reference(category, 40)
        xp = [caption_name(text) for text in rows["prompt"]]
        # every item at the first draw of the teacher, then every item at the second
        compared = {
            "t2i/fid": (frechet_distance, x, reference.features_MD, None),
            "t2i/kd": (kernel_distance, x, reference.features_MD, None),
            "more/cmmd": (cmmd, unit_rows(clip), reference.clip_MD, None),
            "t2i/fid_teacher": (frechet_distance, x, teacher[category], xp * 2),
            "more/kd_teacher": (kernel_distance, x, teacher[category], xp * 2),
        }
        for metric, (distance, a, b, among) in compared.items():
            wholes[metric] += distance(a, b) / 2
            expected = brute(distance, a, xp, b, among)  # type: ignore[arg-type]
            got = found.loc[category][metric].to_dict()
            assert got == pytest.approx(expected, rel=1e-6, abs=1e-6), (category, metric)
    for metric, whole in wholes.items():
        assert whole == pytest.approx(metrics[metric], rel=1e-9), "the distances are the metrics"


def test_references_of_the_same_prompts_leave_too(
    good: Measured, world: World, protocol: Protocol
) -> None:
    captions = {
        c: [caption_name(("red", "green", "blue")[(i + (c == "cold")) % 3]) for i in range(40)]
        for c in protocol.items.t2i
    }
    fixed = _whole(good, world, protocol)
    shared = _whole(good, world, protocol, reference_prompts=captions)
    spread = [t.groupby("stratum")["t2i/kd"].std().max() for t in (fixed, shared)]
    assert spread[1] < 0.5 * spread[0], "a fixed reference misses what only the student lost"


CAPTIONS = "factory: tests.evaluation.fake_world:reference_images"


def test_a_protocol_that_says_captions_keeps_its_fingerprint(
    good: Measured, tmp_path: Path, protocol: Protocol
) -> None:
    text = YAML_TEXT.replace(
        CAPTIONS, f"{CAPTIONS}\n  captions: tests.evaluation.fake_world:reference_captions"
    )
    said = fake_protocol(tmp_path, text)
    assert said.fingerprint() == protocol.fingerprint()
    fixed = tables_of(good.items, good.features, protocol, load_world(protocol))[1]
    shared = tables_of(good.items, good.features, said, load_world(said))[1]
    assert shared["t2i/kd"].std() < fixed["t2i/kd"].std()


def test_prompts_of_edits_are_their_whole_case() -> None:
    def edit(**changes: Any) -> Item:
        said = {"item_id": "a", "task": "edit", "category": "c", "prompt": "make it blue"}
        return Item.model_validate(said | {"source_caption": "s", "target_caption": "t"} | changes)

    names = [
        prompt_name(item)
        for item in (edit(), edit(source_caption="x"), edit(target_caption="x"), edit(prompt="x"))
    ]
    assert len(set(names)) == 4
    assert prompt_name(edit(item_id="b")) == names[0]
    assert names[0].startswith("p")
    assert names[0].isalnum()


def test_the_toy_world_has_few_prompts() -> None:
    items = load_protocol("toyworld-v1").load_items()
    count: dict[tuple[str, str], set[str]] = {}
    for item in items:
        count.setdefault((item.task, item.category), set()).add(prompt_name(item))
    t2i = {c: len(p) for (task, c), p in count.items() if task == "t2i"}
    edit = {c: len(p) for (task, c), p in count.items() if task == "edit"}
    assert t2i == {"landscape": 10, "portrait": 11, "text": 13}
    assert (edit["scene"], edit["object"]) == (20, 30)
    assert {edit[c] for c in ("enhance", "text", "identity", "style")} == {48}


def test_one_prompt_has_no_pseudo_values(
    good: Measured, world: World, protocol: Protocol, tmp_path: Path
) -> None:
    alone = tuple(i.model_copy(update={"prompt": "red"}) for i in world.items)
    references = {c: world.reference(c, 40) for c in protocol.items.t2i}
    found = pseudo_value_table(good.items, good.features, alone, references)
    assert found.empty
    paths = write_by_prompt(item_table(good.items, alone), found, tmp_path)
    assert paths[1].read_text() == "prompt,stratum,n_prompts\n"


def test_written_to_thirteen_digits(
    good: Measured, world: World, protocol: Protocol, tmp_path: Path
) -> None:
    tables = tables_of(good.items, good.features, protocol, world)
    for path, table in zip(write_by_prompt(*tables, tmp_path), tables, strict=True):
        pd.testing.assert_frame_equal(pd.read_csv(path), table, check_dtype=False, rtol=1e-12)
