"""Delay of SIGINT and SIGTERM until the end of a training step."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class SignalDelay:
    """Delays signals that arrive in the middle of a training step.

    A step changes the weights and the metrics. If an exception interrupted the step, only a part of
    the changes would be made. A checkpoint would then contain a wrong state.

    Attributes:
        received: number of the delayed signal; None if no signal has arrived.
        is_active: False until the first step has ended, because the first step can take minutes.
            Until then, a signal stops the training at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.is_active = False
        handlers = {number: signal.getsignal(number) for number in SIGNALS}
        # A program in the background often ignores SIGINT. A handler that was not set by Python is
        # None, and could not be restored.
        self._earlier = {
            number: handler
            for number, handler in handlers.items()
            if handler not in (signal.SIG_IGN, None)
        }

    def deliver(self, default: int | None = None) -> None:
        """Delivers the delayed signal to the handler that was set before `delayed_signals`.

        This handler usually raises `KeyboardInterrupt`.

        Args:
            default: signal to deliver if no signal has arrived; None for no signal.
        """
        number = default if self.received is None else self.received
        self.received = None
        if number is not None:
            self.restore()
            signal.raise_signal(number)

    def start(self) -> None:
        """Sets the signal handlers, except for signals that the process ignores."""
        for number in self._earlier:
            signal.signal(number, self.receive)

    def restore(self) -> None:
        """Sets the signal handlers from before `delayed_signals` again."""
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: delays the first signal, and delivers the second signal at once."""
        is_second = self.received is not None
        self.received = number
        if is_second or not self.is_active:
            self.deliver()


@contextlib.contextmanager
def delayed_signals() -> Iterator[SignalDelay]:
    """Delays SIGINT and SIGTERM inside the block, at most until the end of the block.

    In threads other than the main thread, signals are never received. The block then changes
    nothing.

    Yields:
        The delay. Call `deliver` at a moment at which the training can stop.
    """
    delay = SignalDelay()
    if threading.current_thread() is not threading.main_thread():
        yield delay
        return
    delay.start()
    try:
        yield delay
    finally:
        delay.restore()
    delay.deliver()
