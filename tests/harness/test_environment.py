import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from harness.journal import environment

STUDIES = Path(__file__).parents[2] / "studies"


def test_versions_are_those_installed():
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert found["pydantic"] == metadata.version("pydantic")
    assert found["ray"] == metadata.version("ray")
    assert "pytest" not in found, "tools for development do not change results"


def test_the_names_are_those_of_earlier_records():
    """Compared name by name, a package that only one of two records lists reads as gone or new."""
    lines = (STUDIES / "objective-composition" / "results" / "journal.jsonl").open()
    recorded = next(made for line in lines if (made := json.loads(line).get("environment")))
    assert set(environment.versions()) == set(recorded)


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from harness.journal import environment as e; e.versions(); e.device_model(); "
        "assert not {'torch', 'ray', 'mlflow', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_device_and_host_are_named():
    assert environment.device_model()
    assert environment.device_model(gpu=True)
    assert environment.host()
    assert "." not in environment.host()
