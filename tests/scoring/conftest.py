import pytest

from tests.untrained_runs import write_untrained_run


@pytest.fixture(scope="module")
def pair(tiny_config, builder, tmp_path_factory):
    """Two runs with random weights, `first` and `second`, for whole images of 64 pixels."""
    root = tmp_path_factory.mktemp("pair")
    return [
        write_untrained_run(root / name, tiny_config, builder, seed=seed, framing="whole")
        for seed, name in enumerate(("first", "second"))
    ]
