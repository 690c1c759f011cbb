"""How far a long job is, for the person who waits for it."""

import sys
import time

import keras

_SECONDS_BETWEEN_LINES = 30


class Progress:
    """A bar with the time left where a person watches; elsewhere nothing, or a line now and then.

    Args:
        total: how many there are to do; `None` where that is not known.
        unit: what is counted, in the singular, as `"clip"`.
        title: what is being done, printed above the bar and at the front of the lines.
        lines: whether lines tell how far it is where nobody watches, as where a file takes the output: one
            every half a minute, and one at the end.
    """

    def __init__(self, total, unit, title=None, lines=False):
        self._total = total
        self._unit = unit
        self._title = title
        self._done = 0
        self._start = time.monotonic()
        self._next_line = self._start + _SECONDS_BETWEEN_LINES
        self._bar = None
        self._lines = lines
        if sys.stdout.isatty():
            self._lines = False
            if title:
                print(title)
            self._bar = keras.utils.Progbar(total, unit_name=unit)

    def update(self, done):
        """Shows that so many are done."""
        self._done = done
        # Once it is full a bar stays on the screen: that is for `close`.
        if self._bar and (self._total is None or done < self._total):
            self._bar.update(done)
        elif self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._print_line(self._seconds_left())

    def clear(self):
        """Removes the bar, which comes back with the next `update`."""
        if self._bar:
            print("\r\033[K", end="", flush=True)

    def close(self):
        """Leaves the bar on the screen as it is at the end, or the last of the lines."""
        if self._bar and self._done:
            self._bar.update(self._done, finalize=True)
        elif self._lines and self._done:
            self._print_line()

    def _print_line(self, more=""):
        title = f"{self._title}: " if self._title else ""
        total = "" if self._total is None else f" of {self._total:,}"
        print(f"{title}{self._done:,}{total} {self._unit}s{more}", flush=True)

    def _seconds_left(self):
        if self._total is None or not self._done:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f", {seconds:,.0f} s left"


def tell(line):
    """Prints a line above the bar, where there is one; the bar comes back with its next `update`."""
    print(f"\r\033[K{line}" if sys.stdout.isatty() else line, flush=True)
