import importlib

import pytest


@pytest.fixture
def refuse(monkeypatch, capsys):
    """Runs a command that must end with exit code 2, and returns its only line of error."""

    def run(name, *arguments):
        monkeypatch.setattr("sys.argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            importlib.import_module(name).main()
        error = capsys.readouterr().err
        assert end.value.code == 2, error
        (line,) = [line for line in error.splitlines() if "error: " in line]
        return line

    return run
