import sys

import pytest

import predict
from lcc_tf.cli.predict import numbers_or_text
from tests.mapping.scenes import noise, write_scene


def test_numbers_in_options():
    assert numbers_or_text("3,2,1", int) == (3, 2, 1)
    assert numbers_or_text("0,3000", float) == (0.0, 3000.0)
    assert numbers_or_text("minmax", float) == "minmax"
    assert numbers_or_text("1.5,2,3", int) == "1.5,2,3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bands", "1,2"], "`--bands` must be the numbers of the red, green and blue band"),
        (["--bands", "a,b,c"], "such as 3,2,1. The first band is 1. Received: bands=a,b,c."),
        (["--bands", ""], "Received: bands=."),
        (["--scale", "5,5"], "`--scale` must be minmax, percentile, or a range of values"),
        (["--scale", "max"], "such as 0,3000. Received: scale=max."),
        (["--scale", "0,inf"], "Received: scale=0.0,inf."),
        (["--zones", "gone.gpkg"], "gone.gpkg cannot be read as polygons"),
        (["--model", "gone", "--member-weights", "1"], "`--member-weights` needs `--runs`"),
        (["--model", "gone"], "gone is not a SavedModel that lcc_tf exported"),
    ],
)
def test_invalid_options_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    scene = write_scene(tmp_path / "a.tif", noise(8, 8))
    options = ["--input", str(scene), "--output", str(tmp_path / "maps"), *arguments]
    monkeypatch.setattr(sys, "argv", ["predict.py", *options])
    with pytest.raises(SystemExit) as end:
        predict.main()
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "maps").exists()
