"""Which files of a subject are hashed: links, packages around it, imports named in a text."""

import importlib
import sys
from pathlib import Path

import pytest

from harness.subjects.source import source_files


@pytest.fixture
def project(tmp_path: Path, monkeypatch):
    """Writes files below `p`, which is imported from, and `elsewhere`, which is not."""
    known = set(sys.modules)
    folder = tmp_path / "p"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(files: dict[str, str], links: dict[str, str] | None = None) -> Path:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        for name, target in (links or {}).items():
            (tmp_path / name).symlink_to(tmp_path / target)
        importlib.invalidate_caches()
        return folder

    yield write
    for name in set(sys.modules) - known:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def files_of(module: str, project: Path) -> list[str]:
    importlib.import_module(module)
    return list(source_files(module, project))


def test_a_linked_package_is_named_as_it_is_imported_and_its_imports_are_followed(project):
    folder = project(
        {
            "elsewhere/lab/__init__.py": "",
            "elsewhere/lab/inner/__init__.py": "from .. import deep",
            "elsewhere/lab/deep.py": "import beside_the_study",
            "p/beside_the_study.py": "",
            "p/linked_subject.py": "import linked_lab.inner",
        },
        {"p/linked_lab": "elsewhere/lab"},
    )
    assert files_of("linked_subject", folder) == [
        "beside_the_study.py",
        "linked_lab/__init__.py",
        "linked_lab/deep.py",
        "linked_lab/inner/__init__.py",
        "linked_subject.py",
    ]


def test_a_project_behind_a_link_has_the_same_names(project, monkeypatch, tmp_path):
    project({"p/behind_a_link.py": "import helper_behind", "p/helper_behind.py": ""})
    (tmp_path / "link").symlink_to(tmp_path / "p")
    monkeypatch.syspath_prepend(str(tmp_path / "link"))
    assert files_of("behind_a_link", tmp_path / "link") == ["behind_a_link.py", "helper_behind.py"]


def test_packages_around_a_subject_run_before_it(project):
    folder = project(
        {
            "p/around/__init__.py": "import set_up_first",
            "p/around/trainer.py": "",
            "p/set_up_first.py": "",
        }
    )
    assert files_of("around.trainer", folder) == [
        "around/__init__.py",
        "around/trainer.py",
        "set_up_first.py",
    ]


def test_an_import_whose_name_is_written_in_a_text_counts(project):
    folder = project(
        {
            "p/by_text/__init__.py": "__all__ = ['by_star']",
            "p/by_text/by_star.py": "",
            "p/by_text/relative.py": "",
            "p/named_in_text.py": "",
            "p/by_text/subject.py": """\
from importlib import import_module
from by_text import *
import_module("named_in_text"), import_module(".relative", __package__)
import_module.__call__, __import__
def never(name):
    import_module(name), import_module("/etc/passwd"), import_module(""), import_module("é" * 300)
""",
        }
    )
    assert files_of("by_text.subject", folder) == [
        "by_text/__init__.py",
        "by_text/by_star.py",
        "by_text/relative.py",
        "by_text/subject.py",
        "named_in_text.py",
    ]


def test_a_folder_of_data_hides_no_module_of_its_name(project, tmp_path, monkeypatch):
    """A folder without __init__.py is imported only where nothing else of its name is."""
    project(
        {
            "p/pictures/one.txt": "",
            "elsewhere/pictures.py": "",
            "elsewhere/of_elsewhere.py": "import pictures",
        }
    )
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    assert files_of("of_elsewhere", tmp_path / "p") == ["of_elsewhere.py", "pictures.py"]
