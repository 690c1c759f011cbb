"""Progress of long jobs, as a bar or as lines of text."""

import shutil
import sys
import time

from keras_stm.file_names import without_control

_SECONDS_BETWEEN_LINES = 30


class Progress:
    """Shows a progress bar with the time left in a terminal; elsewhere, prints lines or nothing.

    Args:
        total: number of items to process; `None` if it is unknown.
        unit: name of an item, in the singular, for example `"clip"`.
        title: description of the job, printed above the bar and at the start of each line.
        lines: whether to print a line every 30 seconds, and one at the end, if the output is not a terminal.
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
            # Imported here: only a bar needs Keras.
            import keras

            self._bar = keras.utils.Progbar(total, unit_name=unit)

    def update(self, done):
        """Shows that `done` items are processed."""
        self._done = done
        # A full bar stays on the screen, so only `close` fills the bar.
        if self._bar and (self._total is None or done < self._total):
            self._bar.update(done)
        elif self._lines and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._print_line(self._seconds_left())

    def clear(self):
        """Removes the bar; the next `update` shows it again."""
        if self._bar:
            print("\r\033[K", end="", flush=True)

    def close(self):
        """Shows the final state: leaves the bar on the screen, or prints the last line."""
        if self._bar and self._done:
            self._bar.update(self._done, finalize=True)
        elif self._lines and self._done:
            self._print_line()

    def _print_line(self, more=""):
        title = f"{self._title}: " if self._title else ""
        of = "" if self._total is None else f"{self._done:,} of "
        last = self._done if self._total is None else self._total
        print(f"{title}{of}{counted(last, self._unit)}{more}", flush=True)

    def _seconds_left(self):
        if self._total is None or not self._done:
            return ""
        seconds = (time.monotonic() - self._start) / self._done * (self._total - self._done)
        return f", {seconds:,.0f} s left"


def counted(number, noun):
    """Returns a number and its noun, such as "1 epoch" or "2,000 epochs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def tell(line, file=None):
    """Prints a line in place of the bar, if there is a bar; the next `update` of the bar shows it again.

    The line may have names from files: file names that are not UTF-8, and control characters.

    Args:
        line: text of one or more lines.
        file: stream to print to; `None` is the standard output.
    """
    file = file or sys.stdout
    line = without_control(line)
    line = f"\r\033[K{line}" if file.isatty() else line
    try:
        print(line, file=file, flush=True)
    except UnicodeEncodeError:
        encoding = file.encoding or "utf-8"
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=file, flush=True)


def show(line):
    """Shows a line in a terminal, in place of the line that was shown before; `tell` replaces it, too.

    The line may have names from files. An empty one removes what was shown.
    """
    # A longer line would wrap, and could not be replaced.
    width = shutil.get_terminal_size().columns - 1
    print(f"\r\033[K{without_control(line)[:width]}", end="", flush=True)
