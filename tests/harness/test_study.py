"""Reading study files: YAML 1.2, defaults, the forms a factor may take, digest and schema."""

import json
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.study.load import load_study
from harness.study.model import Study, StudyFile
from tests.harness.study_files import BODY, HEAD, study, write


def test_defaults(tmp_path: Path) -> None:
    made = study(tmp_path, "recipe: {}\nfactors: {part.x: [0, 1]}\n")
    assert made.replicates == 6
    assert made.alpha == 0.05
    assert made.select == "ema"
    assert made.primary == "score"
    assert made.protocol == "default"
    assert made.design == "full"
    assert (made.resources.gpus, made.resources.cpus) == (0, 1)
    assert made.file == tmp_path / "study.yaml"


def test_a_contrast_without_metric_judges_the_primary(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "primary: cost\n")
    assert made.contrasts[0].metric == "cost"


def test_yaml_1_2_values(tmp_path: Path) -> None:
    """`9:1` is text, `1e-4` a number, `on` and `no` are words, 010 is ten."""
    body = """\
        recipe: {mixture: {a: 1, b: 1}}
        factors:
          share: {path: mixture, levels: [9:1, 1:1]}
          part.x: [1e-4, 2]
          fault: [on, no]
          part.y: [010]
        """
    levels = study(tmp_path, body).levels()
    assert list(levels["share"]) == ["9:1", "1:1"]
    assert [level.value for level in levels["part.x"].values()] == [1e-4, 2]
    assert [level.value for level in levels["fault"].values()] == ["on", "no"]
    assert [level.value for level in levels["part.y"].values()] == [10]


def test_the_four_forms_of_a_factor(tmp_path: Path) -> None:
    body = """\
        recipe: {}
        factors:
          part.x: [0.5]
          steps: {path: cycles, levels: [3, 4]}
          look: {levels: {warm: {colour: red, part.y: 0}}}
          mix: {path: mixture, levels: {mostly-a: {a: 9, b: 1}, even: {a: 1, b: 1}}}
        """
    levels = study(tmp_path, body).levels()
    assert levels["part.x"]["0.5"].assignments == {"part.x": 0.5}
    assert levels["steps"]["4"].assignments == {"cycles": 4}
    assert levels["look"]["warm"].assignments == {"colour": "red", "part.y": 0}
    assert levels["mix"]["mostly-a"].assignments == {"mixture": {"a": 9, "b": 1}}


def test_recipe_file_is_found_from_the_study_not_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.yaml").write_text("part: {x: 1.5}\n")
    file = write(tmp_path, "recipe: base.yaml\nfactors: {part.y: [0, 1]}\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert load_study(file).base == {"part": {"x": 1.5}}
    assert load_study(Path("../study.yaml")).base == {"part": {"x": 1.5}}


def test_digest_is_about_the_question_not_about_the_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    (one / "base.yaml").write_text("part: {x: 1}  # comment\n")
    body = "factors: {part.y: [0, 1]}\n"
    in_file = study(one, "recipe: base.yaml\n" + body)
    inline = study(two, "recipe: {part: {x: 1.0}}\n" + body)
    assert in_file.digest() == inline.digest()
    changed = study(two, "recipe: {part: {x: 1.0}}\nreplicates: 3\n" + body)
    assert changed.digest() != inline.digest()
    (one / "base.yaml").write_text("part: {x: 2}\n")
    assert study(one, "recipe: base.yaml\n" + body).digest() != in_file.digest()


def test_a_study_survives_json(tmp_path: Path) -> None:
    made = study(tmp_path)
    again = Study.model_validate(json.loads(json.dumps(made.model_dump(mode="json"))))
    assert again.model_dump() == made.model_dump()
    assert again.digest() == made.digest()


def test_a_changed_copy_has_its_own_levels(tmp_path: Path) -> None:
    made = study(tmp_path)
    assert list(made.levels()) == ["part.x", "look"]
    fewer = made.model_copy(update={"factors": {"part.x": made.factors["part.x"]}})
    assert list(fewer.levels()) == ["part.x"]


def test_one_condition_may_stand_alone(tmp_path: Path) -> None:
    made = study(tmp_path, 'recipe: {}\nfactors: {part.x: [0, 1]}\nwhere: "part.x < 1"\n')
    assert made.where == ["part.x < 1"]


def test_schema_accepts_what_load_accepts(tmp_path: Path) -> None:
    import jsonschema
    from ruamel.yaml import YAML

    schema = StudyFile.model_json_schema()
    content = YAML(typ="safe", pure=True).load(HEAD + BODY)
    content["factors"]["part.y"] = [1, 2]
    content["where"] = "part.x < 1"
    jsonschema.validate(content, schema)
    for wrong in (
        {"replicate": 3},
        {"design": "triples"},
        {"factors": {}},
        {"factors": {"x": []}},
        {"replicates": 0},
        {"contrasts": [{"id": "H1"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | wrong, schema)
    assert all("description" in field for field in schema["properties"].values())


def test_a_missing_file_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match=r"^no file .*none\.yaml\. Name a study file or"):
        load_study(tmp_path / "none.yaml")
    (tmp_path / "studies" / "one").mkdir(parents=True)
    (tmp_path / "studies" / "one" / "study.yaml").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match=r"here are studies/one/study\.yaml$"):
        load_study(Path("one"))
