import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lcc_tf.cli.options import (
    as_invoked,
    in_options,
    new_parser,
    numbers_or_text,
    positive_float,
    positive_int,
    run,
)
from lcc_tf.errors import InputError

ROOT = Path(__file__).parents[2]


def raising(error):
    """Returns a command that raises the given error."""

    def command(options):
        raise error

    return command


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    monkeypatch.setattr("sys.argv", ["command"])


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("Use 96."), 2, "error: Use 96.\n"),
        (
            PermissionError(13, "Permission denied", "/x"),
            2,
            "error: /x: Permission denied. Change the permissions, or choose",
        ),
        (OSError(30, "Read-only file system", "/x"), 2, "file system. Choose another folder.\n"),
        (
            OSError(28, "No space left on device", "/x"),
            2,
            "device. Free some disk space, or",
        ),
        (OSError(40, "Too many levels", "/x"), 2, "error: /x: Too many levels.\n"),
        (OSError("no name"), 2, "error: no name\n"),
        (KeyboardInterrupt(), 130, "interrupted; resume with --resume"),
    ],
)
def test_errors_that_users_can_fix_are_one_line(error, code, text, capsys):
    with pytest.raises(SystemExit) as end:
        run(raising(error), new_parser("", "", {}), when_interrupted="resume with --resume")
    assert end.value.code == code
    output = capsys.readouterr().err
    assert text in output
    assert len(output.strip().splitlines()) == 1


def test_bugs_are_raised_with_a_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda _: 1 / 0, new_parser("", "", {}), when_interrupted="")


def test_success_has_exit_code_0():
    with pytest.raises(SystemExit) as end:
        run(lambda _: None, new_parser("", "", {}), when_interrupted="")
    assert end.value.code == 0


@pytest.mark.parametrize(
    ("kind", "right", "wrong", "text"),
    [
        (positive_int, ("1", 1), "0", "must be 1 or more. Received: 0"),
        (positive_int, ("512", 512), "1.5", "invalid whole number value: '1.5'"),
        (positive_float, ("0.5", 0.5), "0", "must be larger than 0. Received: 0"),
        (positive_float, ("2", 2), "nan", "must be larger than 0. Received: nan"),
        (positive_float, ("2", 2), "inf", "must be larger than 0. Received: inf"),
        (positive_float, ("2", 2), "big", "invalid number value: 'big'"),
    ],
)
def test_positive_numbers_are_parsed(kind, right, wrong, text, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=kind)
    assert parser.parse_args(["--size", right[0]]).size == right[1]
    with pytest.raises(SystemExit):
        parser.parse_args(["--size", wrong])
    assert text in capsys.readouterr().err


def test_numbers_are_parsed_and_other_text_is_not_changed():
    assert numbers_or_text("3,2,1", int) == (3, 2, 1)
    assert numbers_or_text("0,3000") == (0.0, 3000.0)
    assert numbers_or_text("minmax") == "minmax"
    assert numbers_or_text("1.5,2,3", int) == "1.5,2,3"
    assert numbers_or_text("2 1", separator=None) == (2.0, 1.0)
    assert numbers_or_text("2 equal", separator=None) == "2 equal"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Use `resume=True` or another `workdir`.", "Use `--resume` or another `--workdir`."),
        (
            "Use `batch_size=7` or `weights=None`.",
            "Use `--batch-size 7` or `--weights none`.",
        ),
        ("Use `regime='frozen'`, not `class_id`.", "Use `--regime frozen`, not `class_id`."),
        ("`python train.py --workdir x`", "`python train.py --workdir x`"),
    ],
)
def test_arguments_in_messages_are_replaced_with_options(message, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py"])
    options = new_parser("", "", {})
    for name in ("--resume", "--workdir", "--batch-size", "--weights", "--regime"):
        options.add_argument(name)
    assert in_options(message, options) == expected


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("train.py", "python train.py --resume, or import_torch.py"),
        ("/usr/bin/lcc-train", "lcc-train --resume, or lcc-import-torch"),
    ],
)
def test_texts_contain_the_command_that_the_user_runs(program, expected, monkeypatch):
    monkeypatch.setattr("sys.argv", [program])
    assert as_invoked("python train.py --resume, or import_torch.py") == expected


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_a_command_with_the_right_exit_code(number, code):
    program = (
        "import time; from lcc_tf.cli.options import new_parser, run\n"
        "def command(options):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "run(command, new_parser('', '', {}), when_interrupted='resume with --resume')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.readline()
        os.kill(process.pid, number)
        _, error = process.communicate()
    assert process.returncode == code
    assert error.strip().endswith("resume with --resume")
    assert "Traceback" not in error
