"""A run that ends in time: what is left, what a peer is likely to cost, and an alarm for work that goes on too long."""

from __future__ import annotations

import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

RESERVE = 8.0  # seconds for tables and plots at the end
LEAST = 2.0  # seconds under which a case is not begun


class TooLong(BaseException):
    """Raised by at_most(). Not an Exception, which a compiler would catch and wrap."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TooLong in the block after so long. Without effect outside the main thread, where no alarm can be set."""
    if not math.isfinite(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooLong(f"took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Budget:
    """What is left of the time, and what the peers have cost so far.

    Args:
        seconds: of the whole run; None for no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self.limited = seconds is not None
        self._end = time.perf_counter() + seconds if seconds is not None else math.inf
        self._costs: dict[str, list[float]] = {}

    def left(self) -> float:
        return self._end - time.perf_counter() - RESERVE

    def note(self, peer: str, seconds: float) -> None:
        """What preparing a peer took."""
        self._costs.setdefault(peer, []).append(seconds)

    def expected(self, peer: str, guess: float) -> float:
        """What it will take: the median of the last times, else the guess."""
        last = self._costs.get(peer, [])[-5:]
        return statistics.median(last) if last else guess
