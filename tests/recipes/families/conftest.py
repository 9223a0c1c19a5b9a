"""One folder of tiny weights for all tests of the family."""

from __future__ import annotations

from pathlib import Path

import pytest

from recipes.families.qwen_image import QwenImageFamily
from recipes.families.qwen_image_settings import QwenImage
from tests.recipes.families import tiny_qwen


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    return tiny_qwen.write(tmp_path_factory.mktemp("tiny-qwen"))


@pytest.fixture(scope="session")
def settings(weights) -> QwenImage:
    return QwenImage(path=str(weights), pixels=32, dtype="float32")


@pytest.fixture(scope="session")
def family(settings) -> QwenImageFamily:
    return QwenImageFamily(settings)
