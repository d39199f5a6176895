"""The steps that a run awaits, and the rounds in which their results reach it.

On replay the recorded rounds come first, each when the run is quiet; then what is fresh begins; from then on
results are delivered as they come, those that are done together in one round. It decides nothing about what a
step does, and may not know stores.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from durable._executor.draft import Pending, Phase
from durable._executor.quiet import Quiet

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator

    from durable._core.journal import Journal, Key

__all__ = ["Rounds"]


class Rounds:
    """What is awaited, what is held back, what is done; and when it is delivered.

    Args:
        loop: The run's event loop.
        journal: What is recorded.
        live: Whether nothing is recorded that could be delivered: a first pass.
        begin: Starts a fresh step.
        calm: Called when the run is quiet and nothing is to be delivered: it may park.
        checked: Called before fresh results are delivered; ``False`` stops the delivery.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        journal: Journal,
        *,
        live: bool,
        begin: Callable[[Pending], None],
        calm: Callable[[], None],
        checked: Callable[[], bool],
    ) -> None:
        self.awaiting: dict[Key, Pending] = {}
        self.held: list[Pending] = []
        self.done: list[Pending] = []
        self.live = live
        self.unanswered = 0
        self.stopped = False
        self.told_forlorn = False
        self.quiet = Quiet(loop, self._on_quiet)
        self._journal = journal
        self._owed = 0
        self._gathering = False
        self._begin = begin
        self._calm = calm
        self._checked = checked

    def take_up(self, pending: Pending) -> None:
        """The handler awaits a step."""
        self.awaiting[pending.key] = pending
        entry = pending.entry
        if pending.phase is Phase.WAITING:  # a retry was armed before it came here
            pass
        elif entry is None:
            if (self.live or pending.lone) and not self._owed:
                self.live = True
                self._begin(pending)
            else:
                self.held.append(pending)
        elif entry.withdrawn or entry.memo is None:
            pending.phase = Phase.GONE
        else:
            pending.phase = Phase.RECORDED
            self._owed += 1
            self.live = False
        if pending.lone and pending.phase not in (Phase.RECORDED, Phase.GONE):
            self._calm()
        else:
            self.quiet.touch()

    def leave(self, pending: Pending) -> None:
        """The handler awaits it no longer."""
        self.awaiting.pop(pending.key, None)

    def give_up(self, pending: Pending) -> Phase:
        """Nothing of it will be delivered any more; the phase that it was in."""
        before, pending.phase = pending.phase, Phase.GONE
        if before is Phase.RECORDED:
            self._owed -= 1
        elif before is Phase.DONE and pending in self.done:
            self.done.remove(pending)
        self.quiet.touch()
        return before

    def finished(self, pending: Pending) -> None:
        """A fresh result is recorded: it comes with its round, at once if the run is quiet."""
        pending.phase = Phase.DONE
        self.done.append(pending)
        self._deliver_done_if(calm=pending.lone or self.quiet.reached)

    def answered(self, pending: Pending) -> None:
        """A result that only the store could know is known; no round was delivered before."""
        self.unanswered -= 1
        self._deliver_done_if(calm=pending.lone or self.quiet.reached)

    def _deliver_done_if(self, *, calm: bool) -> None:
        if calm and self.done and not self._owed and not self._gathering:
            self._deliver_done()

    @contextmanager
    def together(self) -> Generator[None, None, None]:
        """All that is finished inside is delivered in one round."""
        self._gathering = True
        try:
            yield
        finally:
            self._gathering = False
            self._deliver_done_if(calm=self.quiet.reached or all(one.lone for one in self.done))

    # ------------------------------------------------------------ delivering

    def _deliver_done(self) -> None:
        if self.unanswered or self.stopped:
            return
        done, self.done = self.done, []
        self._journal.delivered()
        if self._checked():
            self._deliver(done)

    def _deliver(self, round_: list[Pending]) -> None:
        for pending in round_:
            if pending.phase is Phase.RECORDED:
                self._owed -= 1
                pending.phase = Phase.DONE
            if pending.entry is not None:
                pending.entry.delivered = True
            if pending.expired is not None:
                pending.phase = Phase.DELIVERED
                pending.expired()
            elif pending.future is not None and not pending.future.done():
                pending.phase = Phase.DELIVERED
                pending.future.set_result(None)
        self.quiet.touch()

    def _is_recorded(self, key: Key) -> bool:
        pending = self.awaiting.get(key)
        return pending is not None and pending.phase is Phase.RECORDED

    def _on_quiet(self) -> None:
        if self.stopped:
            return
        recorded = self._journal.next_round(self._is_recorded) if self._owed else ()
        if recorded:
            self._deliver([self.awaiting[key] for key, _ in recorded])
            return
        if self.done:
            self._deliver_done()
            return
        self.live = True
        held, self.held = self.held, []
        with self.together():
            for pending in held:
                if pending.phase is Phase.HELD:
                    self._begin(pending)
        if self.quiet.reached:
            self._calm()

    # ------------------------------------------------------------ what the run is waiting for

    @property
    def idle(self) -> bool:
        """Whether all that is awaited is a matter of time, events or other runs."""
        if self.done or self.held:
            return False
        waits = False
        for pending in self.awaiting.values():
            if pending.phase is Phase.WAITING:
                waits = True
            elif pending.phase is not Phase.GONE and not pending.has_expired:
                return False
        return waits and (self.quiet.reached or all(one.lone for one in self.awaiting.values()))

    @property
    def forlorn(self) -> bool:
        """Whether the handler awaits only what it has withdrawn before: it waits for itself."""
        return (
            self.quiet.reached
            and bool(self.awaiting)
            and all(one.phase is Phase.GONE for one in self.awaiting.values())
        )
