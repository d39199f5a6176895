"""Draws random programs from a seed."""

from __future__ import annotations

from random import Random

from tests.laws import programs as p

DEPTH = 5
_LEAVES = 14


class Generator:
    """Draws one program. No more than `_LEAVES` steps and `DEPTH` levels."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._left = random.choice([3, 5, 8, _LEAVES])
        self._ids = 0
        self._retries = random.choice([1, 2]) if random.random() < 0.12 else 0

    def program(self) -> p.Program:
        random = self._random
        root = p.Seq(tuple(self._node(1, spine=True) for _ in range(random.choice([1, 1, 2, 3]))))
        if self._retries and random.random() < 0.5:
            root = p.Seq((*root.items, p.Raise(self._id("boom"), first=True)))
        if random.random() < 0.5:
            root = p.Seq((*root.items, self._leaf()))
        return p.Program(root, self._retries)

    def _id(self, letter: str = "s") -> str:
        self._ids += 1
        return f"{letter}{self._ids}"

    # ------------------------------------------------------------ leaves

    def _leaf(self) -> p.Node:
        random = self._random
        self._left -= 1
        kind = random.random()
        pause = random.choice([0, 0, 0, 0, 1, 2])
        if self._retries and random.random() < 0.1:
            return p.Raise(self._id("boom"), first=True)
        if kind < 0.62:
            return self._run(pause)
        if kind < 0.76:
            return p.Sleep(self._id(), pause, seconds=random.choice([0, 1, 1, 2, 3]))
        if kind < 0.83:
            return p.Send(self._id(), pause, channel=random.choice("ab"))
        if kind < 0.89:
            return p.Wait(self._id(), pause, channel=random.choice("ab"), seconds=random.choice([1, 3]))
        if kind < 0.92:
            return p.Signal(self._id(), pause)
        if kind < 0.94:
            return p.Await(self._id(), pause, seconds=random.choice([1, 3]))
        if kind < 0.98:
            return p.Invoke(self._id(), pause, fails=random.random() < 0.3)
        return p.Raise(self._id("boom"), first=self._retries > 0)

    def _run(self, pause: int = 0) -> p.Run:
        random = self._random
        name, tag = self._id(), ""
        if random.random() < 0.04 and not self._retries:
            name, tag = "twin", name
        kind = random.random()
        if kind < 0.35:
            return p.Run(name, pause, tag=tag)
        if kind < 0.75:
            return p.Run(name, pause, tag=tag, turns=random.choice([1, 2, 3, 5, 9, 20]))
        if kind < 0.78:
            return p.Run(name, pause, tag=tag, thread=True)
        if kind < 0.88:
            return p.Run(name, pause, tag=tag, turns=random.choice([0, 4]), fails=random.choice([1, 2]))
        return p.Run(name, pause, tag=tag, turns=random.choice([0, 2, 9]), fails=-1)

    def _never(self) -> p.Run:
        self._left -= 1
        return p.Run(self._id(), never=True)

    # ------------------------------------------------------------ the rest

    def _node(self, depth: int, *, spine: bool = False) -> p.Node:
        random = self._random
        if depth >= DEPTH or self._left <= 0 or random.random() < 0.15 + 0.08 * depth:
            return self._leaf()
        draw = random.choice(_KINDS)
        if draw == "within" and not spine:
            draw = "race"
        made: p.Node = getattr(self, f"_{draw}")(depth + 1, spine)
        return made

    def _several(self, depth: int, most: int = 4) -> tuple[p.Node, ...]:
        return tuple(self._node(depth) for _ in range(self._random.randint(2, most)))

    def _seq(self, depth: int, spine: bool) -> p.Node:
        return p.Seq(tuple(self._node(depth, spine=spine) for _ in range(self._random.choice([2, 2, 3]))))

    def _loop(self, depth: int, spine: bool) -> p.Node:
        return p.Loop(self._node(depth, spine=spine), self._random.choice([2, 3]))

    def _gather(self, depth: int, spine: bool) -> p.Node:
        return p.Gather(self._several(depth), errors=self._random.random() < 0.4)

    def _group(self, depth: int, spine: bool) -> p.Node:
        return p.Group(self._several(depth))

    def _race(self, depth: int, spine: bool) -> p.Node:
        items = self._several(depth)
        if any(p.prompt(one) for one in items) and self._random.random() < 0.3:
            items = (*items, self._never())
        return p.Race(items, reap=self._random.random() < 0.6)

    def _lead(self, depth: int, spine: bool) -> p.Node:
        if self._random.random() < 0.5:  # events sent at once come in one round
            return p.Lead(tuple(p.Send(self._id()) for _ in range(3)))
        return p.Lead(self._several(depth))

    def _completed(self, depth: int, spine: bool) -> p.Node:
        items = self._several(depth)
        return p.Completed(items, take=self._random.choice([0, 0, 1, 2]) % len(items))

    def _timeout(self, depth: int, spine: bool) -> p.Node:
        body = self._node(depth)
        otherwise = self._node(depth, spine=spine)
        return p.Timeout(self._id("t"), body, otherwise, self._random.choice([1, 2, 3]))

    def _within(self, depth: int, spine: bool) -> p.Node:
        body: p.Node = self._never()
        before = self._prompt(depth)
        body = p.Seq((before, body)) if self._random.random() < 0.5 else p.Gather((before, body), errors=True)
        return p.Within(body, self._node(depth, spine=spine))

    def _prompt(self, depth: int) -> p.Node:
        """A part that ends without any time passing."""
        for _ in range(4):
            ids, left = self._ids, self._left
            node = self._node(depth)
            if p.prompt(node) and not _threaded(node):
                return node
            self._ids, self._left = ids, left
        return p.Run(self._id(), turns=self._random.choice([0, 3]))

    def _shield(self, depth: int, spine: bool) -> p.Node:
        return p.Shield(self._node(depth))

    def _wait_for(self, depth: int, spine: bool) -> p.Node:
        return p.WaitFor(self._node(depth))

    def _background(self, depth: int, spine: bool) -> p.Node:
        return p.Background(self._node(depth), self._node(depth), join=self._random.random() < 0.5)

    def _try(self, depth: int, spine: bool) -> p.Node:
        random = self._random
        body = self._node(depth, spine=spine)
        otherwise = self._node(depth, spine=spine) if random.random() < 0.8 else None
        final = self._node(depth, spine=spine) if otherwise is None or random.random() < 0.4 else None
        return p.Try(body, otherwise, final)

    def _switch(self, depth: int, spine: bool) -> p.Node:
        main = self._race(depth, spine=False) if self._random.random() < 0.6 else self._node(depth)
        return p.Switch(main, tuple(self._node(depth, spine=spine) for _ in range(2)))


def _threaded(node: p.Node) -> bool:
    return getattr(node, "thread", False) or any(_threaded(part) for part in node.parts)


_KINDS = [
    *["seq"] * 3,
    *["loop"] * 2,
    *["gather"] * 4,
    *["group"] * 3,
    *["race"] * 4,
    *["lead"] * 2,
    *["completed"] * 2,
    *["timeout"] * 3,
    *["within"] * 2,
    *["shield"] * 2,
    *["wait_for"] * 1,
    *["background"] * 2,
    *["try"] * 5,
    *["switch"] * 3,
]


def generate(seed: int) -> p.Program:
    """The program of a seed."""
    return Generator(Random(seed)).program()
