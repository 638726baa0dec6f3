import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lcc_tf.cli.train import main, parser
from lcc_tf.config import TrainConfig

ROOT = Path(__file__).parents[2]


def help_text():
    return " ".join(parser().format_help().split())


def test_help_shows_defaults_of_configuration_and_original():
    text = help_text()
    assert f"over all devices (default: {TrainConfig.batch_size}; original: 7)" in text
    assert "(default: 20; original: 20, 30 or 50)" in text
    assert "(default: unknown; original: none)" in text
    assert "random scale of crops, such as 0.5 2 (default: 1 1)" in text
    assert "(default: *_sat.jpg)" in text
    assert "order and augmentation (default: 0)" in text


def test_help_needs_no_tensorflow():
    code = (
        "import sys; from lcc_tf.cli.train import parser; parser().format_help(); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_recipe_seed_is_refused_with_the_list_of_recipes(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train.py", "--recipe", "seed"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "Unknown `--recipe`. Received: 'seed'. Choose one of ['default', 'original']." in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_have_their_own_exit_codes(number, code):
    program = (
        "import time; from lcc_tf.cli.options import new_parser, run\n"
        "def command(options):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "run(command, new_parser('', ''), when_interrupted='resume with --resume')"
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
