import importlib
from pathlib import Path

import pytest


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command in this process. Returns its exit code, output and errors."""

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(name).main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refuse(run):
    """Runs a command that must end with exit code 2. Returns its only line of error.

    The command must not change the files of the working directory.
    """

    def refuse(name, *arguments):
        before = sorted(Path.cwd().rglob("*"))
        code, _, error = run(name, *arguments)
        assert code == 2, error
        assert sorted(Path.cwd().rglob("*")) == before
        (line,) = [line for line in error.splitlines() if "error: " in line]
        return line

    return refuse
