"""What a session has handed over to be written, and when it is durable."""

from __future__ import annotations

from bisect import bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING

from durable._executor.draft import Draft, Phase

if TYPE_CHECKING:
    import asyncio

    from durable._core.catalog import Catalog
    from durable._executor.draft import Pending
    from durable.records import Commit

__all__ = ["Outbox"]


class Outbox:
    """The draft of one session, and its commits under way.

    Commits are numbered; whoever waits, waits for those that were handed over before, and for no later ones:
    else the callbacks of a wide fan-out would wait for each other.
    """

    __slots__ = ("_landed", "_loop", "_refused", "_sealed", "_sent", "_waiting", "dirty", "draft")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.draft = Draft()
        self.dirty = False
        self._loop = loop
        self._sealed = 0
        self._landed = 0
        self._refused = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._sent: list[tuple[int, Pending, frozenset[str]]] = []

    @property
    def in_flight(self) -> bool:
        """Whether a commit is under way: the next one waits, since this one may be refused and then goes first."""
        return self._landed < self._sealed

    @property
    def empty(self) -> bool:
        """Whether everything that was handed over is durable."""
        return not self.dirty and self._landed == self._sealed

    def seal(self, run: str, gen: int, catalog: Catalog) -> tuple[Draft, Commit]:
        """Take the draft out, as a commit."""
        self.dirty = False
        commit = self.draft.commit(run, gen, catalog)
        draft, self.draft = self.draft, Draft()
        self._sealed += 1
        return draft, commit

    def restore(self, draft: Draft) -> None:
        """A commit was refused for no fault of the run: put it before what has come since."""
        self._sealed -= 1
        draft.extend(self.draft)
        self.draft = draft
        # What was spread over two commits is in one now, and so is what others wait for.
        self._waiting = [(min(number, self._sealed + 1), future) for number, future in self._waiting]
        self._sent = [(min(number, self._sealed + 1), one, names) for number, one, names in self._sent]

    def landed(self) -> None:
        """The oldest commit under way is durable."""
        self._landed += 1
        if self._sent:
            self._sent = [one for one in self._sent if one[0] > self._landed]
        if not self._waiting:
            return
        told = bisect_right(self._waiting, self._landed, key=itemgetter(0))
        for _, future in self._waiting[:told]:
            if not future.done():
                future.set_result(None)
        del self._waiting[:told]

    def refuse(self) -> bool:
        """The commit under way can never be written, nor may what would follow it; whether it is the first one.

        Whoever waits for it waits on: nothing may happen that others can see, and the session is taken apart.
        """
        self._landed += 1
        self._waiting.clear()
        self.draft = Draft()
        again, self._refused = self._refused, True
        return not again

    async def barrier(self) -> None:
        """Return when everything that was handed over until now is durable."""
        if self.empty:
            return
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append((self._sealed + self.dirty, future))
        await future

    # ------------------------------------------------------------ events under way

    def sends(self, pending: Pending, names: frozenset[str]) -> None:
        """The draft holds events of these names, which this step sends."""
        self._sent.append((self._sealed + 1, pending, names))

    def has_sent(self, name: str) -> bool:
        """Whether an event of that name is under way whose step is over for the handler.

        It came before what the handler does now, and yet may be written in one commit with that.
        """
        return any(name in names and pending.phase is not Phase.DONE for _, pending, names in self._sent)
