import pytest

from lcc_tf.errors import InputError, requires


@pytest.mark.parametrize(
    ("packages", "match"),
    [
        (["gone"], r"^Mapping needs gone, which is not installed. Run: .* 'lcc_tf\[maps\]'$"),
        (["gone", "numpy", "also-gone"], "needs gone and also-gone, which are not installed"),
    ],
)
def test_missing_packages_are_named_with_their_extra(packages, match):
    with pytest.raises(InputError, match=match), requires("maps", "Mapping", *packages):
        import gone  # noqa: F401


def test_broken_package_keeps_its_own_error():
    with pytest.raises(ModuleNotFoundError), requires("maps", "Mapping", "numpy"):
        import numpy.gone  # noqa: F401
