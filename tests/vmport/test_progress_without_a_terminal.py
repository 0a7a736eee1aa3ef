"""Progress where stderr is a file: a line now and then, and none of quick work."""

from __future__ import annotations

import pytest

from vmport.render import progress
from vmport.render.progress import ProgressDisplay

GIB = 1 << 30


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_line_every_ten_seconds_at_most(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressDisplay(shown=True, of="a\x1b[0m.raw (2 of 5)") as display:
        for tenth in range(251):
            clock.now = 1000 + tenth / 10
            display.update("converting", tenth / 250, 4 * GIB)
    assert capsys.readouterr().err == (
        "vmport: a\\x1b[0m.raw (2 of 5): converting: 40% of 4 GiB\n"
        "vmport: a\\x1b[0m.raw (2 of 5): converting: 80% of 4 GiB\n"
    )


def test_quick_work_and_quiet_work_say_nothing(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with ProgressDisplay(shown=True) as display:
        clock.now += 9.9
        display.update("verifying", 0.5, GIB)
    with ProgressDisplay(shown=False) as display:
        clock.now += 60
        display.update("verifying", 0.5, GIB)
    assert capsys.readouterr().err == ""
