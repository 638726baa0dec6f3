import numpy as np
import pytest

from lcc_tf.exporting import Agreement, DeviationError


def probabilities(*rows):
    return np.array([[rows]], np.float32)  # one image of one row


EXPECTED = probabilities([0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8])


def test_deviation_and_share_over_all_images():
    # The first image as it is; in the second, one pixel of four by 0.3 to the other class.
    changed = probabilities([0.3, 0.7], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7])
    agreement = Agreement.of([EXPECTED, changed], [EXPECTED, EXPECTED])
    assert agreement.share == 7 / 8
    assert agreement.num_pixels == 8
    assert agreement.deviation == pytest.approx(0.3)
    assert "87.500 % of 8 pixels" in str(agreement)


@pytest.mark.parametrize(
    ("share", "deviation", "accepted"), [(0.75, 0.4, True), (0.8, 0.4, False), (0.7, 0.2, False)]
)
def test_either_bound_refuses(share, deviation, accepted):
    changed = probabilities([0.3, 0.7], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8])
    agreement = Agreement.of([changed], [EXPECTED])
    if accepted:
        agreement.require("a.onnx", share=share, deviation=deviation)
        return
    with pytest.raises(DeviationError, match="a.onnx deviates.*75.000 % of 4 pixels"):
        agreement.require("a.onnx", share=share, deviation=deviation)


def test_no_number_is_no_agreement():
    # NaN at a pixel whose class is the first one either way: the classes agree.
    broken = EXPECTED.copy()
    broken[0, 0, 0] = np.nan
    agreement = Agreement.of([broken, EXPECTED], [EXPECTED, EXPECTED])
    assert agreement.share == 1
    with pytest.raises(DeviationError, match="within nan"):
        agreement.require("a.onnx", share=0.5, deviation=1.0)


def test_another_shape_is_no_agreement():
    # One that numpy would compare, by repeating it.
    with pytest.raises(DeviationError, match=r"\(1, 1, 1, 2\) instead of \(1, 1, 4, 2\)"):
        Agreement.of([EXPECTED[:, :, :1]], [EXPECTED])
