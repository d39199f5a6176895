"""When a cron line fires: the ticks of one line in one zone.

Duty: to refuse lines that do not parse or never fire, and to name the ticks after, between and before
instants. The only file that knows croniter, and that for its grammar alone: each field is expanded by it, one
at a time, so that an error names its field. The search is ours, on the naive local calendar, and the zone is
attached last: croniter's own search fires twice on the day the clocks go back. No clock, no I/O; cursors,
missed ticks and runs are not known here.

A line that fires in every hour of the day is *hourly*. When the clocks go back it fires in both passes of
the hour, and when they go forward it skips what is left out. Any other line fires once for a local time: in
the first pass, and for all that was left out once, right after the jump.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, time, timedelta
from hashlib import blake2b
from typing import TYPE_CHECKING, NoReturn, cast
from zoneinfo import ZoneInfo

import attrs

from durable.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from durable.triggers import CronTrigger

__all__ = ["Schedule"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_LAST_YEAR = 9998
_END_MS = (datetime(_LAST_YEAR, 1, 1, tzinfo=UTC) - _EPOCH) // _MS
_HORIZON = 41 * 12
"""Months that a search looks at. A 29 February on a given weekday comes at least every 40 years, and nothing
that a line can say is rarer."""

_NAMED = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_DRAWN = re.compile(r"[hr](\(.*\))?(/.*)?", re.DOTALL)
_LAST = 0
"""Among dates, the last day of the month; among places in a month, the last one."""
_EVERY = -1
"""Among places in a month, all of them."""


def _refuse(line: str, why: str) -> NoReturn:
    msg = (
        f"the cron line {line!r} {why}; write for example "
        '"0 9 * * 1-5" (minute, hour, day, month, weekday), "0 9 * * 1-5 30" (seconds last) or "@hourly"'
    )
    raise ConfigError(msg)


@attrs.frozen
class _Field:
    """One place of a line: what messages call it, what it takes, and what that looks like."""

    name: str
    low: int
    high: int
    hint: str


_FIELDS = (
    _Field("minute", 0, 59, "0-59"),
    _Field("hour", 0, 23, "0-23"),
    _Field("day of the month", 1, 31, "1-31, L for the last one"),
    _Field("month", 1, 12, "1-12 or JAN-DEC"),
    _Field("weekday", 0, 6, "0-7 or SUN-SAT, 5#2 for the second Friday, L5 for the last one"),
    _Field("second", 0, 59, "0-59"),
)


@attrs.frozen
class _Expanded:
    """A field as croniter reads it; `places` and `nearest` hold its extensions ``#``, ``L5`` and ``15W``."""

    values: tuple[int, ...]
    places: frozenset[tuple[int, int]]
    nearest: frozenset[int]


def _words(line: str) -> list[str]:
    """The fields of a line as croniter shall see them, in lower case; refuses what it would misread."""
    words = line.lower().split()
    if not line.isascii():
        _refuse(line, "does not parse: a letter or digit of it is not ASCII")  # croniter 6 takes any digit
    if words and words[0].startswith("@"):
        named = _NAMED.get(" ".join(words))
        if named is None:
            _refuse(line, f"has no known name: there are {', '.join(_NAMED)}")
        words = named.split()
    if len(words) not in (5, 6):
        _refuse(line, f"has {len(words)} fields, not 5, or 6 with seconds last")
    # Two spellings of "any": croniter would count `*/1` as a restriction and join it to the other day field.
    words = ["*" if word == "*/1" else word for word in words]
    for word, field in zip(words, _FIELDS, strict=False):
        items = word.split(",")
        if any(_DRAWN.fullmatch(item) for item in items):
            _refuse(line, f"leaves its {field.name} to chance ({word!r}): H and R differ between engines")
        for item in items:
            low, dash, high = item.partition("/")[0].partition("-")
            if dash and low == high:
                # croniter reads `9-9` as every hour, other crons as nine o'clock.
                _refuse(line, f"has {item!r} as its {field.name}: a range needs two ends, or write {low!r}")
    marked = ["#" in item or item.startswith("l") for item in words[4].split(",")]
    if any(marked) and not all(marked):
        _refuse(line, f"mixes weekdays with places in the month ({words[4]!r}): give one kind, or two lines")
    return words


def _expand(line: str, words: Sequence[str], index: int) -> _Expanded:
    """Expand one field, with every other one free, so that its error is its own."""
    from croniter import croniter  # noqa: PLC0415 - on first use: `import durable` stays fast

    field, word = _FIELDS[index], words[index]
    alone = ["*"] * len(words)
    alone[index] = word
    try:
        read = croniter(" ".join(alone), 0.0)
    except (ValueError, LookupError, TypeError):
        _refuse(line, f"does not parse: its {field.name} is {word!r}, and should be {field.hint}")
    raw = cast("list[list[int | str]]", read.expanded)[index]
    nth = cast("dict[int, set[int | str]]", read.nth_weekday_of_month)
    whole = range(field.low, field.high + 1)
    values = tuple(whole) if "*" in raw else tuple(_LAST if v == "l" else int(v) for v in raw)
    return _Expanded(
        values,
        frozenset((day, _LAST if n == "l" else int(n)) for day, ns in nth.items() for n in ns),
        # croniter 6 has no `W`: there the field did not parse.
        frozenset(cast("set[int]", getattr(read, "nearest_weekday", set[int]()))),
    )


def _months(start: datetime, step: int) -> Iterator[tuple[int, int]]:
    """Year and month of all months that a search looks at, from that of `start` on."""
    first = start.year * 12 + start.month - 1
    for months in range(first, first + step * _HORIZON, step):
        year, month = divmod(months, 12)
        if year > _LAST_YEAR:
            return
        yield year, month + 1


@attrs.frozen
class _Line:
    """A parsed line on a calendar without zones: which whole seconds fit.

    `dates` and `weekdays` are ``None`` where the field is ``*``: if both say something, either will do.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    dates: frozenset[int] | None
    nearest: frozenset[int]
    weekdays: frozenset[tuple[int, int]] | None

    @classmethod
    def parse(cls, line: str) -> _Line:
        """Read a line; `ConfigError` for one that does not parse."""
        words = _words(line)
        fields = [_expand(line, words, index) for index in range(len(words))]
        minute, hour, day, month, weekday = fields[:5]
        free = [not {"*", "?"}.isdisjoint(word.split(",")) for word in words]
        return cls(
            seconds=tuple(sorted(fields[5].values)) if len(fields) == 6 else (0,),
            minutes=tuple(sorted(minute.values)),
            hours=tuple(sorted(hour.values)),
            months=frozenset(month.values),
            dates=None if free[2] else frozenset(() if day.nearest else day.values),
            nearest=day.nearest,
            weekdays=None
            if free[4]
            else weekday.places or frozenset((value, _EVERY) for value in weekday.values),
        )

    def after(self, moment: datetime) -> datetime | None:
        """The first time that fits, later than `moment`; ``None`` if there is none within the horizon."""
        start = moment.replace(microsecond=0) + timedelta(seconds=1)
        for year, month in _months(start, 1):
            for day in self._days(year, month):
                today = date(year, month, day)
                floor = max(datetime.combine(today, time.min), start)
                if floor.date() == today and (clock := self._clock_from(floor)) is not None:
                    return datetime.combine(today, clock)
        return None

    def until(self, moment: datetime) -> datetime | None:
        """The last time that fits, `moment` included; ``None`` if there is none within the horizon."""
        for year, month in _months(moment, -1):
            for day in reversed(self._days(year, month)):
                today = date(year, month, day)
                ceiling = min(datetime.combine(today, time.max), moment)
                if ceiling.date() == today and (clock := self._clock_until(ceiling)) is not None:
                    return datetime.combine(today, clock)
        return None

    def _days(self, year: int, month: int) -> list[int]:
        """The days of one month that fit, in order."""
        if month not in self.months:
            return []
        offset, length = calendar.monthrange(year, month)
        days = range(1, length + 1)
        if self.dates is None and self.weekdays is None:
            return list(days)
        fit: set[int] = set()
        if self.dates is not None:
            fit.update(length if day == _LAST else day for day in self.dates)
            fit.update(_nearest(day, offset, length) for day in self.nearest)
        if self.weekdays is not None:
            for day in days:
                weekday = (offset + day) % 7  # monthrange counts from Monday = 0, cron from Sunday = 0
                places = {_EVERY, (day + 6) // 7, _LAST if day + 7 > length else _EVERY}
                if any((weekday, place) in self.weekdays for place in places):
                    fit.add(day)
        return [day for day in days if day in fit]

    def _clock_from(self, moment: datetime) -> time | None:
        """The first time of the day that fits, from that of `moment` on."""
        hour, minute = moment.hour, moment.minute
        if hour in self.hours:
            if minute in self.minutes:
                second = _up(self.seconds, moment.second)
                if second is not None:
                    return time(hour, minute, second)
            later = _up(self.minutes, minute + 1)
            if later is not None:
                return time(hour, later, self.seconds[0])
        later = _up(self.hours, hour + 1)
        return None if later is None else time(later, self.minutes[0], self.seconds[0])

    def _clock_until(self, moment: datetime) -> time | None:
        """The last time of the day that fits, up to that of `moment`."""
        hour, minute = moment.hour, moment.minute
        if hour in self.hours:
            if minute in self.minutes:
                second = _down(self.seconds, moment.second)
                if second is not None:
                    return time(hour, minute, second)
            earlier = _down(self.minutes, minute - 1)
            if earlier is not None:
                return time(hour, earlier, self.seconds[-1])
        earlier = _down(self.hours, hour - 1)
        return None if earlier is None else time(earlier, self.minutes[-1], self.seconds[-1])


def _up(values: tuple[int, ...], floor: int) -> int | None:
    index = bisect_left(values, floor)
    return values[index] if index < len(values) else None


def _down(values: tuple[int, ...], ceiling: int) -> int | None:
    index = bisect_right(values, ceiling)
    return values[index - 1] if index else None


def _nearest(day: int, offset: int, length: int) -> int:
    """The day from Monday to Friday that is nearest to `day`, within the month."""
    day = min(day, length)
    weekday = (offset + day) % 7
    if weekday == 6:
        return day - 1 if day > 1 else day + 2
    if weekday == 0:
        return day + 1 if day < length else day - 2
    return day


class _Clocks:
    """The clocks on the walls of one zone: which local time an instant shows, and back.

    A local time that comes twice has two *passes*, 0 and 1 (PEP 495's fold); one that the clocks jump over
    has none. For either pass alone, local times and instants have the same order: that is what lets a search
    on the calendar, in either direction, answer for instants.
    """

    __slots__ = ("_zone",)

    def __init__(self, name: str) -> None:
        self._zone = ZoneInfo(name)

    def at(self, ms: int) -> datetime:
        """The local time at an instant, naive."""
        return (_EPOCH + ms * _MS).astimezone(self._zone).replace(tzinfo=None)

    def instant(self, local: datetime, fold: int) -> int:
        """The instant at which a local time that exists is shown, in this pass if there are two."""
        return _as_utc_ms(local - self._offset(local, fold))

    def jump(self, local: datetime) -> int | None:
        """The instant at which the clocks jump over this local time; ``None`` if it exists."""
        before, after = self._offset(local, 0), self._offset(local, 1)
        if before >= after:
            return None
        return self._turn(_as_utc_ms(local - after), _as_utc_ms(local - before))

    def reached(self, ms: int, fold: int) -> datetime:
        """The local time up to which everything has been shown in this pass by the instant `ms`.

        In the other pass of an hour that comes twice that is not what the clocks show now: pass 0 is then
        through with the whole hour, pass 1 has seen nothing of it.
        """
        local = self.at(ms)
        first, second = self._offset(local, 0), self._offset(local, 1)
        if first <= second or local.fold == fold:
            return local
        length = (first - second) // _MS
        if fold == 0:
            turn, offset = self._turn(ms - length, ms), first
        else:
            turn, offset = self._turn(ms, ms + length), second
        return (_EPOCH + turn * _MS).replace(tzinfo=None) + offset - _MS

    def _offset(self, local: datetime, fold: int) -> timedelta:
        offset = local.replace(tzinfo=self._zone, fold=fold).utcoffset()
        assert offset is not None
        return offset

    def _turn(self, before: int, after: int) -> int:
        """The instant between two, at a whole second, from which on the offset is no longer that before."""
        low, high = before // 1000, after // 1000
        offset = self._shift(low)
        while high - low > 1:
            middle = (low + high) // 2
            if self._shift(middle) == offset:
                low = middle
            else:
                high = middle
        return high * 1000

    def _shift(self, seconds: int) -> timedelta | None:
        return (_EPOCH + timedelta(seconds=seconds)).astimezone(self._zone).utcoffset()


def _as_utc_ms(naive: datetime) -> int:
    return (naive.replace(tzinfo=UTC) - _EPOCH) // _MS


class Schedule:
    """The ticks of one cron line, read in its zone.

    Instants are milliseconds since the epoch. There are ticks from 1970 up to the year 9998.

    Args:
        trigger: The declaration; its line has five fields, or six with seconds last, or is ``@hourly``,
            ``@daily``, ``@midnight``, ``@weekly``, ``@monthly``, ``@yearly`` or ``@annually``.

    Raises:
        ConfigError: The line does not parse, can never fire, or leaves something to chance.

    Example:
        >>> from durable.triggers import cron
        >>> Schedule(cron("0 0 29 2 *")).next_after(0)
        68169600000
    """

    __slots__ = ("_clocks", "_hourly", "_jitter_ms", "_key", "_line", "_passes")

    def __init__(self, trigger: CronTrigger) -> None:
        words = " ".join(trigger.expr.split())
        self._key = f"{words} {trigger.timezone}"
        self._jitter_ms = trigger.jitter_ms
        self._line = _Line.parse(words)
        if self._line.after(_EPOCH.replace(tzinfo=None)) is None:
            _refuse(words, "never fires: no year has such a day")
        self._clocks = _Clocks(trigger.timezone)
        self._hourly = len(self._line.hours) == 24
        self._passes = (0, 1) if self._hourly else (0,)

    @property
    def key(self) -> str:
        """What identifies line and zone, for the cursor that remembers how far ticks have been run.

        Example:
            >>> from durable.triggers import cron
            >>> Schedule(cron("TZ=Europe/Paris 0 9 * * 1-5", jitter="1m")).key
            '0 9 * * 1-5 Europe/Paris'
        """
        return self._key

    def next_after(self, ms: int) -> int | None:
        """The first tick strictly after an instant; ``None`` where the calendar ends."""
        ms = max(ms, -1)
        if ms >= _END_MS:
            return None
        found = (self._seek(ms, fold, back=False) for fold in self._passes)
        return min((tick for tick in found if tick is not None), default=None)

    def between(self, after: int, until: int, limit: int) -> list[int]:
        """The earliest `limit` ticks of those after `after` and up to `until`, in order."""
        ticks: list[int] = []
        while len(ticks) < limit:
            tick = self.next_after(after)
            if tick is None or tick > until:
                break
            ticks.append(tick)
            after = tick
        return ticks

    def latest(self, after: int, until: int) -> int | None:
        """The last tick after `after` and up to `until`; the same work however many there are."""
        until = min(until, _END_MS)
        after = max(after, -1)
        if until <= after:
            return None
        found = (self._seek(until, fold, back=True) for fold in self._passes)
        return max((tick for tick in found if tick is not None and tick > after), default=None)

    def jitter_of(self, tick: int, seed: str) -> int:
        """How long to put a tick off: 0 to the trigger's jitter, in milliseconds.

        A hash of both, not a draw: every engine comes to the same time, and with another seed (the function)
        to another one.
        """
        if not self._jitter_ms:
            return 0
        digest = blake2b(f"{tick} {seed}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) % (self._jitter_ms + 1)

    def _seek(self, ms: int, fold: int, *, back: bool) -> int | None:
        """The first tick after `ms`, or the last one up to it, of those in one pass."""
        search = self._line.until if back else self._line.after
        local = search(self._clocks.reached(ms, fold))
        while local is not None:
            jump = self._clocks.jump(local)
            if jump is None:
                return self._clocks.instant(local, fold)
            if not self._hourly:
                return jump
            local = search(self._clocks.at(jump - 1) if back else self._clocks.at(jump) - _MS)
        return None
