"""How far long work is: a bar in a terminal, a line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from contextlib import suppress

from tqdm import tqdm

#: Seconds between two lines where there is no terminal.
EVERY = 30.0


class Progress:
    """A bar on standard error or, where that is no terminal, a line every half minute.

    ``done`` of ``total`` are finished when it begins. With ``shown`` false nothing is written. A
    log that can no longer be written (a full disk) stops no work.
    """

    def __init__(
        self, total: int, done: int = 0, *, unit: str = "step", shown: bool = True
    ) -> None:
        self.total, self.done, self.unit = total, done, unit
        terminal = shown and sys.stderr is not None and sys.stderr.isatty()
        self._lines = shown and not terminal
        self._bar = tqdm(
            total=total, initial=done, unit=unit, disable=not terminal, dynamic_ncols=True
        )
        self._text = ""
        self._began, self._first = time.monotonic(), done
        self._written: float | None = None  # when the last line was
        self._told = done  # how many were finished in it

    def update(self, n: int = 1) -> None:
        """So many more are done."""
        self.done += n
        self._bar.update(n)
        late = self._lines and time.monotonic() - (self._written or self._began) >= EVERY
        if late and self.done < self.total:  # the end has a line of its own
            self._line()

    def describe(self, text: str) -> None:
        """What to say beside the count from now on, such as losses."""
        self._text = text
        self._bar.set_postfix_str(text)
        if self._written is None:
            self._line()

    def close(self) -> None:
        """Leave the bar as it is, and a last line, unless that was written already."""
        self._bar.close()
        if self.done > self._told:
            self._line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _line(self) -> None:
        if not self._lines:
            return
        self._written, self._told = time.monotonic(), self.done
        rate = (self.done - self._first) / max(self._written - self._began, 1e-9)
        line = f"{self.unit} {self.done} of {self.total}, {rate:.3g} a second"
        if self.done < self.total and rate:
            line += f", {tqdm.format_interval((self.total - self.done) / rate)} left"
        if self._text:
            line += f": {self._text}"
        with suppress(OSError, ValueError):  # ValueError: it is closed
            print(line, file=sys.stderr, flush=True)
