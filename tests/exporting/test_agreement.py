import numpy as np
import pytest

from lcc_tf.exporting.agreement import Agreement, AgreementError


def probabilities(*rows):
    return np.array([[rows]], np.float32)  # one image with one row of pixels


EXPECTED = probabilities([0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8])


def test_fraction_and_maximum_difference_over_all_images():
    # The first image is unchanged. In the second image, one of the four pixels has another class,
    # and the maximum difference of a probability is 0.3.
    changed = probabilities([0.3, 0.7], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7])
    agreement = Agreement.of([EXPECTED, changed], [EXPECTED, EXPECTED])
    assert agreement.fraction == 7 / 8
    assert agreement.num_pixels == 8
    assert agreement.max_difference == pytest.approx(0.3)
    assert "87.500 % of 8 pixels" in str(agreement)


@pytest.mark.parametrize(
    ("min_fraction", "max_difference", "accepted"),
    [(0.75, 0.4, True), (0.8, 0.4, False), (0.7, 0.2, False)],
)
def test_agreement_below_a_limit_raises(min_fraction, max_difference, accepted):
    changed = probabilities([0.3, 0.7], [0.1, 0.9], [0.5, 0.5], [0.2, 0.8])
    agreement = Agreement.of([changed], [EXPECTED])
    if accepted:
        agreement.require("a.onnx", min_fraction=min_fraction, max_difference=max_difference)
        return
    with pytest.raises(AgreementError, match="a.onnx differs.*75.000 % of 4 pixels"):
        agreement.require("a.onnx", min_fraction=min_fraction, max_difference=max_difference)


def test_nan_raises():
    # The argmax of [NaN, 0.4] is the first class. Therefore all pixels have the same class.
    broken = EXPECTED.copy()
    broken[0, 0, 0] = np.nan
    agreement = Agreement.of([broken, EXPECTED], [EXPECTED, EXPECTED])
    assert agreement.fraction == 1
    with pytest.raises(AgreementError, match="difference of a probability nan"):
        agreement.require("a.onnx", min_fraction=0.5, max_difference=1.0)


def test_different_shapes_raise():
    # This shape needs an explicit check, because numpy would broadcast it without an error.
    with pytest.raises(AgreementError, match=r"\(1, 1, 1, 2\) instead of \(1, 1, 4, 2\)"):
        Agreement.of([EXPECTED[:, :, :1]], [EXPECTED])
