import platform
import subprocess
import sys
from importlib import metadata

from harness.journal import environment


def test_versions_are_those_installed():
    found = environment.versions()
    assert found["python"] == platform.python_version()
    assert found["pydantic"] == metadata.version("pydantic")
    assert found["ray"] == metadata.version("ray")
    assert "pytest" not in found, "tools for development do not change results"


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
