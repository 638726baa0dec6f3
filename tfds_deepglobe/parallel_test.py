import threading
import time

import pytest

from tfds_deepglobe.errors import InputError
from tfds_deepglobe.parallel import num_cores, ordered_map


def test_several_threads_return_results_in_order(capsys):
    threads = set()

    def slow_at_first(item):
        threads.add(threading.get_ident())
        time.sleep(0.02 if item == 0 else 0.001)
        return item

    assert list(ordered_map(slow_at_first, range(30), "counting")) == list(range(30))
    assert len(threads) == min(num_cores(), 32)
    assert "counting: 100%" in capsys.readouterr().err


def test_at_most_two_results_per_thread_are_computed_in_advance():
    started = []
    results = ordered_map(started.append, range(1000), "counting")
    next(results)
    results.close()
    assert len(started) <= 2 * num_cores()


def test_error_in_a_thread_is_raised_in_the_caller():
    def fail(item):
        raise InputError(f"item {item}")

    with pytest.raises(InputError, match="item 0"):
        list(ordered_map(fail, range(3), "failing"))
