"""Clocks and timers, and what happens when the power goes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ClockBase(StrEnum):
    """What the guest's hardware clock shows at start."""

    UTC = "utc"
    LOCALTIME = "localtime"
    TIMEZONE = "timezone"
    VARIABLE = "variable"
    ABSOLUTE = "absolute"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Timer:
    """One of the machine's timers: ``rtc``, ``pit``, ``hpet``, ``tsc``, ``hypervclock``, ..."""

    name: str
    present: bool | None = None
    tick_policy: str | None = None
    track: str | None = None
    frequency: int | None = None
    """Hertz."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The hardware clock."""

    base: ClockBase | None = None
    timezone: str | None = None
    offset: int | None = None
    """Seconds from `base`; for `ClockBase.VARIABLE` from UTC, as the guest left it."""
    timers: tuple[Timer, ...] = ()


class PowerAction(StrEnum):
    """What the hypervisor does when the guest's state changes."""

    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"
    RENAME_RESTART = "rename-restart"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Power:
    """Reactions to power events."""

    on_power_off: PowerAction | None = None
    on_reboot: PowerAction | None = None
    on_crash: PowerAction | None = None
    suspend_to_memory: bool | None = None
    suspend_to_disk: bool | None = None
    autostart: bool | None = None
