import doctest

import pytest

from tfds_deepglobe import classes, file_names, parallel, relabeling, splits


@pytest.mark.parametrize(
    "module", [classes, file_names, parallel, relabeling, splits], ids=lambda m: m.__name__
)
def test_examples_of_a_module(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
