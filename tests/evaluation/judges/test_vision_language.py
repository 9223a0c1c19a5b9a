"""The vision-language judge on random tiny weights: its arithmetic, not its judgement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.items import Item
from evaluation.judges.vision_language import VisionLanguageJudge
from tests.recipes.families import tiny_qwen

PICTURES = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
    torch.uint8
)


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> VisionLanguageJudge:
    home = tmp_path_factory.mktemp("judge")
    tokens = tiny_qwen.tokenizer(home)
    tiny_qwen.text_encoder(tokens).save_pretrained(home / "processor")
    return VisionLanguageJudge(str(home / "processor"), dtype="float32").eval()


def _item(number: int, prompt: str, task: str = "t2i") -> Item:
    return Item(item_id=f"i{number}", task=task, category="text", prompt=prompt)


def test_answers_are_the_probability_of_yes_against_no(judge):
    shown = list(PICTURES[:1])
    found = judge.answer(shown, "Is it?")
    assert 0 < found < 1
    judge.yes, judge.no = judge.no, judge.yes
    turned = judge.answer(shown, "Is it?")
    judge.yes, judge.no = judge.no, judge.yes
    assert found + turned == pytest.approx(1)


def test_words_are_those_in_quotes_and_columns_do_not_hang_on_the_batch(judge):
    items = [_item(0, 'a sign that reads "OPEN now"'), _item(1, "a lake")]
    found = judge.read(PICTURES, items)
    assert np.isnan(found["words"]).tolist() == [False, True]
    alone = judge.read(PICTURES[1:], items[1:])
    assert alone["attributes"][0] == pytest.approx(found["attributes"][1])


def test_edits_are_compared_with_their_source(judge):
    items = [_item(0, "make it blue", "edit")]
    judge.sources = lambda asked: (torch.zeros(len(asked), 3, 32, 32, dtype=torch.uint8),)
    dark = judge.follow(PICTURES[:1], items)
    judge.sources = lambda asked: (torch.full((len(asked), 3, 32, 32), 255, dtype=torch.uint8),)
    light = judge.follow(PICTURES[:1], items)
    assert dark.shape == (1,)
    assert dark[0] != light[0]
    assert judge.kept(PICTURES[:1], items)[0] != light[0]


def test_a_judge_that_is_not_here_is_missing(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no judge"):
        VisionLanguageJudge(str(tmp_path))
