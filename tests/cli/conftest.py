import importlib
from pathlib import Path

import pytest


@pytest.fixture
def run(monkeypatch, capsys):
    """Returns a function that runs a command in this process.

    The function returns the exit code, the standard output and the standard error of the command.
    """

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(name).main()
        return end.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def refuse(run):
    """Returns a function that runs a command and asserts that it fails.

    The command must exit with code 2, print exactly one line of error, and not change the files of
    the working directory. The function returns the line of error.
    """

    def refuse(name, *arguments):
        before = sorted(Path.cwd().rglob("*"))
        code, _, error = run(name, *arguments)
        assert code == 2, error
        assert sorted(Path.cwd().rglob("*")) == before
        (line,) = [line for line in error.splitlines() if "error: " in line]
        return line

    return refuse
