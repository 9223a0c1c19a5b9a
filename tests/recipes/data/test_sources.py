"""Sources: files beside the toy world, subsets, and trials on them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.data.sources import Sources, taken
from recipes.data.toyworld import ToyWorldSource
from recipes.families.base import Condition
from recipes.families.toyworld import shared
from recipes.recipe import Recipe
from recipes.toyworld.prompts import CATEGORIES, edit_cases, prompts
from tests.recipes.data.files import image_folder, magicbrush_parquet, write_jsonl


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path, cache: Path) -> Path:
    """A JSONL of each category's training prompts, a parquet and a folder of edits."""
    for category in CATEGORIES:
        rows = [{"caption": p.caption} for p in prompts(category, "train")]
        write_jsonl(tmp_path / f"{category}.jsonl", rows)
    magicbrush_parquet(tmp_path / "objects.parquet", "object", 8)
    image_folder(tmp_path / "faces", "identity", 8)
    return tmp_path


def _recipe(data: dict, **fields) -> Recipe:
    train = {"batch_size": 6, "cycles": 2}
    objective = {"fake_updates": 1, "warmup_fake_updates": 1}
    return Recipe.model_validate({"data": data, "train": train, "objective": objective, **fields})


def _draws(recipe: Recipe, cache: Path, replicate: int = 0) -> Draws:
    family = shared()
    sources = Sources(recipe.data, family, stream_for(replicate), cache)
    return Draws(recipe, sources, family.latent_shape, stream_for(replicate))


def _files(folder: Path) -> dict:
    prompts_of = {f"my-{c}": {"kind": "files", "path": f"{folder}/{c}.jsonl"} for c in CATEGORIES}
    edits = {
        "objects": {"kind": "files", "task": "edit", "path": f"{folder}/objects.parquet"},
        "faces": {"kind": "files", "task": "edit", "path": f"{folder}/faces"},
    }
    return prompts_of | edits


def test_a_jsonl_of_the_same_prompts_gives_the_same_batches(folder: Path, cache: Path):
    tasks = {"t2i": 1.0}
    mine = {"sources": _files(folder), "composition": {f"my-{c}": 1 for c in CATEGORIES}}
    ours = _draws(_recipe({}, tasks=tasks), cache)
    files = _draws(_recipe(mine, tasks=tasks), cache)
    for cycle in range(6):
        a, b = (d.batch("student", cycle, 0) for d in (ours, files))
        assert torch.equal(a.condition.text_BLD, b.condition.text_BLD)
        assert b.condition.labels == a.condition.labels, "rows are about what they show"


def test_nothing_set_draws_as_the_toy_world_alone(cache: Path):
    recipe = _recipe({})
    alone = Draws(recipe, ToyWorldSource(shared()), shared().latent_shape, stream_for(0))
    joined = _draws(recipe, cache)
    for cycle in range(4):
        a, b = (d.batch("fake", cycle, 2).condition for d in (alone, joined))
        assert torch.equal(a.text_BLD, b.text_BLD)
        assert (a.source_BCHW is None) == (b.source_BCHW is None)
        if a.source_BCHW is not None:
            assert torch.equal(a.source_BCHW, b.source_BCHW)


def test_one_batch_mixes_edits_of_files_and_of_the_world(folder: Path, cache: Path):
    data = {"sources": _files(folder), "edit_types": {"objects": 1, "style": 1, "faces": 1}}
    recipe = _recipe(data, tasks={"edit": 1.0}, train={"batch_size": 24, "cycles": 1})
    draws = _draws(recipe, cache)
    batch = draws.batch("student", 0, 0)
    assert set(batch.condition.labels) == {"object", "style", "identity"}
    rows = draws.source._files["objects"].rows
    pictures = torch.stack([torch.from_numpy(rows.pixels(i, "source")) for i in range(8)])
    known = shared().autoencoder.encode(pictures.float() / 127.5 - 1)
    for row, label in enumerate(batch.condition.labels):
        distances = (known - batch.condition.source_BCHW[row]).abs().amax(dim=(1, 2, 3))
        assert (float(distances.min()) < 1e-4) == (label == "object")


def test_targets_come_with_the_same_conditions_to_who_asks(folder: Path, cache: Path):
    data = {"sources": _files(folder), "edit_types": {"objects": 1, "scene": 1}}
    source = _draws(_recipe(data), cache).source
    assert source.offers_targets
    names = ["objects", "scene", "objects", "scene"]

    def drawn(draw, names, **asked):
        return draw(names, [torch.Generator().manual_seed(i) for i in range(4)], **asked)

    plain, asked = drawn(source.edit, names), drawn(source.edit, names, targets=True)
    assert plain.target_BCHW is None
    assert torch.equal(plain.source_BCHW, asked.source_BCHW)
    rows = source._files["objects"].rows
    pictures = torch.stack([torch.from_numpy(rows.pixels(i, "target")) for i in range(8)])
    known = shared().autoencoder.encode(pictures.float() / 127.5 - 1)
    for row, name in enumerate(names):
        distances = (known - asked.target_BCHW[row]).abs().amax(dim=(1, 2, 3))
        assert (float(distances.min()) < 1e-4) == (name == "objects")
    whole = drawn(source.t2i, ["text"] * 4, targets=True)
    assert torch.equal(whole.text_BLD, drawn(source.t2i, ["text"] * 4).text_BLD)
    assert whole.target_BCHW.shape == (4, *shared().latent_shape)


def test_prompts_of_files_offer_no_targets(folder: Path, cache: Path):
    data = {"sources": _files(folder), "composition": {"my-text": 1, "portrait": 1}}
    assert not _draws(_recipe(data), cache).source.offers_targets


def test_two_cycles_train_on_files_of_both_tasks(folder: Path, cache: Path):
    data = {
        "sources": _files(folder),
        "composition": {"my-text": 1, "portrait": 1},
        "edit_types": {"objects": 1, "faces": 1},
        "size": 20,
    }
    recipe = _recipe(data, mixing={"by": "sample"})
    trial = Distillation(recipe, shared(), _draws(recipe, cache))
    before = [p.clone() for p in trial.student.parameters()]
    logs = [trial.cycle() for _ in range(2)]
    assert trial.skipped == {"student": 0, "fake": 0}
    assert all(log["grad_norm_student"] > 0 for log in logs)
    after = trial.student.parameters()
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    shares = trial.standing()
    assert shares["share_t2i"] == 0.5
    assert {"share_t2i.my-text", "share_edit.objects"} <= set(shares)


# Subsets


def test_a_smaller_set_is_part_of_a_larger_one_and_differs_by_replicate():
    pool = range(200)
    sets = {n: taken("a", pool, n, stream_for(0)) for n in (10, 40, 200)}
    assert sets[10] == sets[40][:10]
    assert sorted(sets[200]) == list(pool)
    assert taken("a", pool, 10, stream_for(1)) != sets[10]
    assert taken("b", pool, 10, stream_for(0)) != sets[10], "each source has a stream of its own"
    assert taken("a", pool, None, stream_for(0)) == list(pool)


def test_a_trial_sees_as_many_distinct_prompts_as_its_size_says(cache: Path):
    recipe = _recipe({"size": 9, "composition": {"portrait": 2, "text": 1}}, tasks={"t2i": 1})
    draws = _draws(recipe, cache)
    seen = {"portrait": set(), "text": set()}
    for cycle in range(40):
        condition = draws.batch("student", cycle, 0).condition
        for text, label in zip(condition.text_BLD, condition.labels, strict=True):
            seen[label].add(tuple(text.flatten().tolist()))
    assert {label: len(texts) for label, texts in seen.items()} == {"portrait": 6, "text": 3}


def test_a_set_larger_than_a_file_is_refused(folder: Path, cache: Path):
    data = {"sources": _files(folder), "composition": {"my-text": 1}, "size": 5000}
    with pytest.raises(ValueError, match=r"takes 5000 prompts of 'my-text', which has \d\d;"):
        _draws(_recipe(data), cache)


def test_two_names_of_one_category_are_two_subsets(cache: Path):
    world = {"kind": "toyworld", "category": "portrait"}
    data = {"sources": {"a": world, "b": world}, "composition": {"a": 1, "b": 1}, "size": 20}
    chosen = _draws(_recipe(data), cache).source.world.chosen
    assert {name: len(pool) for name, pool in chosen.items()} == {"a": 10, "b": 10}
    assert set(chosen["a"]) != set(chosen["b"])


# A trial of the subject


def _context(folder: Path, cache: Path) -> Context:
    folder.mkdir()
    protocol = str(Path(__file__).parents[1] / "toyworld-tiny-v1.yaml")
    return Context(
        key="k", replicate=0, seed=stream_for(0), folder=folder,
        measurement=Measurement(protocol=protocol), cache=cache,
    )  # fmt: skip


def test_bad_rows_are_told_at_the_start_and_in_the_log(
    folder: Path, tmp_path: Path, cache: Path, capsys
):
    with (folder / "text.jsonl").open("a") as held:
        held.write('{"caption": "a dog on a skateboard"}\n{"caption": ""}\n')
    data = {"sources": _files(folder), "composition": {"my-text": 1}, "max_bad_share": 0.1}
    recipe = _recipe(data).model_dump(mode="json")
    trial = subject.run(recipe, _context(tmp_path / "attempt", cache))
    first = next(trial)
    trial.close()
    told = (
        "2 of 77 rows left out: 1 prompt outside the vocabulary (row 75); 1 empty prompt (row 76)"
    )
    assert first.info["data.my-text"] == told
    assert f"data.my-text: {told}" in capsys.readouterr().out


def test_too_many_bad_rows_refuse_the_trial(folder: Path, tmp_path: Path, cache: Path):
    write_jsonl(folder / "text.jsonl", [{"caption": ""}, *[{"caption": "turn it grey"}] * 2])
    data = {"sources": _files(folder), "composition": {"my-text": 1}, "max_bad_share": 0.5}
    recipe = _recipe(data).model_dump(mode="json")
    with pytest.raises(ValueError, match="no usable row; 3 of 3"):
        next(subject.run(recipe, _context(tmp_path / "attempt", cache)))


@pytest.mark.slow
def test_training_stops_at_the_extended_total(tmp_path: Path, cache: Path):
    fields = {"tasks": {"t2i": 1, "edit": 1}, "mixing": {"count": "t2i"}}
    recipe = _recipe({}, **fields).model_dump(mode="json")
    reports = list(subject.run(recipe, _context(tmp_path / "attempt", cache)))
    assert reports[-1].outcome.state == "done"
    assert {r.step for r in reports if r.measured} == {4}
    assert {r.total for r in reports} == {4}
    assert subject.scope(recipe, "toyworld-v1").endswith(", 4 cycles")


def test_another_name_of_a_category_is_labelled_by_the_category(cache: Path):
    data = {
        "sources": {
            "signs": {"kind": "toyworld", "category": "text"},
            "faces": {"kind": "toyworld", "task": "edit", "category": "identity"},
        },
        "composition": {"signs": 1, "portrait": 1},
        "edit_types": {"faces": 1},
    }
    for objective in ({"fake_updates": 1}, {"name": "consistency"}):  # without and with targets
        for task, labels in (("t2i", {"text", "portrait"}), ("edit", {"identity"})):
            recipe = Recipe.model_validate(
                {"data": data, "objective": objective, "tasks": {task: 1}}
            )
            condition = _draws(recipe, cache).batch("student", 0, 0).condition
            assert set(condition.labels) == labels
            shown = shared().labels(_captions(condition))
            assert condition.labels == shown


def _captions(condition: Condition) -> list[str]:
    """The texts behind a condition, found by their embedding among all that may be drawn."""
    pool = [p.caption for c in CATEGORIES for p in prompts(c, "train")]
    pool += [case.instruction for case in edit_cases("identity", "train")]
    known = dict.fromkeys(pool)
    found = {shared().condition([text]).text_BLD.numpy().tobytes(): text for text in known}
    return [found[row.numpy().tobytes()] for row in condition.text_BLD]


def test_files_of_a_task_without_a_share_are_not_asked_for_targets(folder: Path, cache: Path):
    data = {"sources": _files(folder), "composition": {"my-text": 1}, "edit_types": {"scene": 1}}
    recipe = Recipe.model_validate(
        {"data": data, "objective": {"name": "consistency"}, "tasks": {"edit": 1}}
    )
    family = shared()
    sources = Sources(recipe.data, family, stream_for(0), cache, recipe.mixture.tasks)
    draws = Draws(recipe, sources, family.latent_shape, stream_for(0))
    assert draws.batch("student", 0, 0).condition.target_BCHW is not None
    assert not sources.reports
    both = Sources(recipe.data, family, stream_for(0), cache)
    with pytest.raises(ValueError, match="needs target images"):
        Draws(recipe, both, family.latent_shape, stream_for(0))
