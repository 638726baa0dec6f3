import pytest

from lcc_tf.training.phases import Phase, learning_rate_of


def phase(epochs):
    return Phase(0, epochs, encoder_trains=True, learning_rate=1e-2, stops_early=True)


def test_cosine_schedule_warms_up_and_ends_at_0():
    schedule = learning_rate_of(phase(10), "cosine", steps_per_epoch=10)
    rates = [float(schedule(step)) for step in range(101)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) == 5
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_constant_schedule_and_single_step_have_a_constant_learning_rate():
    assert learning_rate_of(phase(10), "constant", steps_per_epoch=10) == 1e-2
    assert learning_rate_of(phase(1), "cosine", steps_per_epoch=1) == 1e-2
