import signal
import threading

import pytest

from lcc_tf.training.interruption import delayed_signals


@pytest.fixture(autouse=True)
def default_handlers():
    """Restores the handlers of the test process after a test."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        assert signal.getsignal(number) is handler


def interrupted(block, *, is_active=True):
    """Runs a block with delayed signals, and returns True if an interruption has ended it."""
    try:
        with delayed_signals() as delay:
            delay.is_active = is_active
            block(delay)
    except KeyboardInterrupt:
        return True
    return False


def test_signal_is_delivered_when_the_training_can_stop():
    reached = []

    def block(delay):
        signal.raise_signal(signal.SIGINT)
        reached.append(delay.received)
        delay.deliver()
        reached.append("after the delivery")

    assert interrupted(block)
    assert reached == [signal.SIGINT]


def test_signal_before_the_first_step_is_delivered_at_once():
    reached = []

    def block(delay):
        signal.raise_signal(signal.SIGINT)
        reached.append("after the signal")

    assert interrupted(block, is_active=False)
    assert reached == []


def test_second_signal_is_delivered_at_once():
    reached = []

    def block(delay):
        for number in (1, 2):
            signal.raise_signal(signal.SIGINT)
            reached.append(number)

    assert interrupted(block)
    assert reached == [1]


def test_ignored_signals_stay_ignored():
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        received = []

        def block(delay):
            signal.raise_signal(signal.SIGINT)
            received.append(delay.received)

        assert not interrupted(block)
        assert received == [None]
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


def test_signal_is_delivered_at_the_end_of_the_block():
    assert interrupted(lambda delay: signal.raise_signal(signal.SIGINT))
    assert not interrupted(lambda delay: delay.deliver())  # no signal was sent


def test_other_threads_are_not_changed():
    """Python runs signal handlers in the main thread only."""
    received = []

    def use():
        with delayed_signals() as delay:
            delay.deliver()
            received.append(delay.received)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert received == [None]
