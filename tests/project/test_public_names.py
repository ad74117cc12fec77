"""`import tensoryard`: the names it promises, and what loading it costs."""

import subprocess
import sys
from pathlib import Path

import tensoryard


def test_the_list_of_public_names_is_sorted_and_complete() -> None:
    assert tensoryard.__all__ == sorted(tensoryard.__all__)
    assert {*tensoryard.__all__} == {*tensoryard._MODULES, "__version__"}
    assert {*tensoryard.__all__} <= {*dir(tensoryard)}


def test_every_public_name_loads_and_says_what_it_is() -> None:
    for name in tensoryard._MODULES:
        found = getattr(tensoryard, name)
        assert found.__name__ == name
        assert found.__doc__


def test_importing_loads_nothing_else() -> None:
    """The command line starts with it, and so does every script that logs a metric."""
    code = "import sys; before = {*sys.modules}; import tensoryard; print(*({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tensoryard"]


def test_an_unknown_name_is_an_import_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tensoryard import Nothing"], capture_output=True, text=True, check=False
    )
    assert "ImportError: cannot import name 'Nothing'" in done.stderr


def test_the_version_is_the_package_s() -> None:
    from importlib.metadata import version

    assert tensoryard.__version__ == version("tensoryard")


def test_the_library_does_not_need_the_command_line() -> None:
    package = Path(tensoryard.__file__).parent
    modules = [path for path in package.rglob("*.py") if path.parent.name != "cli" and path.name != "__main__.py"]

    assert [path.name for path in modules if "tensoryard.cli" in path.read_text(encoding="utf-8")] == []
