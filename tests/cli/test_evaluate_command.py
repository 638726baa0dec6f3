import pytest

from lcc_tf.cli.evaluate import parser
from lcc_tf.scoring.protocols import PROTOCOLS


def test_protocol_option_has_all_protocols_and_the_original_as_default():
    assert parser().parse_args([]).protocol == "original"
    for name in (*PROTOCOLS, "all"):
        assert parser().parse_args(["--protocol", name]).protocol == name


def test_former_protocol_name_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit) as stopped:
        parser().parse_args(["--protocol", "seed"])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "seed" in error
    for name in (*PROTOCOLS, "all"):
        assert name in error
