import numpy as np
import pytest

from lcc_tf.errors import InputError
from lcc_tf.models.weight_values import check_finite
from lcc_tf.runs import load_model
from tests.untrained_runs import write_untrained_run


def test_first_array_and_number_of_arrays_are_named():
    arrays = [("a", np.ones(2)), ("b", np.array([1, np.inf])), ("c", np.array([np.nan]))]
    check_finite(arrays[:1], "file")
    with pytest.raises(InputError, match="^file must .* infinite values in b and 1 more arrays"):
        check_finite(arrays, "file")


def test_negative_variance_raises():
    check_finite([("norm.running_var", np.zeros(2)), ("norm.weight", -np.ones(2))], "file")
    for name in ("norm.running_var", "norm/moving_variance"):
        with pytest.raises(InputError, match=f"negative variances in {name}"):
            check_finite([(name, np.array([1, -0.1]))], "file")


def test_run_with_nan_raises(builder, tiny_config, tmp_path):
    run = write_untrained_run(tmp_path / "run", tiny_config, builder)
    model = load_model(run)
    bias = model.get_layer("head_logits").bias
    bias.assign(np.full(bias.shape, np.nan))
    model.save_weights(tmp_path / "run" / "best.weights.h5")
    with pytest.raises(InputError, match="best.weights.h5 must .* in head_logits/bias"):
        load_model(run)
