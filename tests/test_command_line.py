import pytest

from lcc_tf.command_line import run
from tfds_deepglobe.errors import InputError


def raising(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (InputError("give another"), 2, "error: give another\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: [Errno 13] Permission"),
        (KeyboardInterrupt(), 130, "interrupted; go on with --resume"),
    ],
)
def test_what_the_user_can_mend_is_one_line(error, code, text, capsys):
    with pytest.raises(SystemExit) as end:
        run(raising(error), when_interrupted="go on with --resume")
    assert end.value.code == code
    output = capsys.readouterr().err
    assert text in output
    assert len(output.strip().splitlines()) == 1


def test_defects_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0, when_interrupted="")


def test_success_ends_with_0():
    with pytest.raises(SystemExit) as end:
        run(lambda: None, when_interrupted="")
    assert end.value.code == 0
