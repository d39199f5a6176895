"""Names: of text alone, whatever the text's class, and nothing that could not be stored."""

import enum

import pytest

import durable
from durable.names import exact


class Text(str):
    __slots__ = ()

    def __str__(self):
        return "something else"


Name = enum.Enum("Name", {"CREATED": "order/created"}, type=str)


@pytest.mark.parametrize("name", ["a", "order/created", "Ünï", "漢字", "\N{PILE OF POO}", " "])
def test_text_is_a_name(name):
    assert exact(name) is name


@pytest.mark.parametrize("none", ["", None, 5, b"a", Text(""), "\udcff", "a\ud800", Text("\udcff")])
def test_what_is_no_name(none):
    assert exact(none) is None


@pytest.mark.parametrize("name", [Text("order/created"), Name.CREATED])
def test_of_a_subclass_only_the_text_counts(name):
    found = exact(name)
    assert type(found) is str
    assert found == "order/created"


def test_declarations_hold_plain_names():
    async def handler(ctx): ...

    f = durable.function(
        Name.CREATED,
        trigger=durable.on(Name.CREATED),
        name=Name.CREATED,
        cancel_on=durable.CancelOn(Name.CREATED),
    )(handler)
    (trigger,), (cancel,) = f.config.triggers, f.config.cancel_on
    event = durable.Event(Name.CREATED, id=Name.CREATED, v=Name.CREATED)
    for one in (f.id, f.name, trigger.event, cancel.event, event.name, event.id, event.v):
        assert type(one) is str
        assert one == "order/created"


@pytest.mark.parametrize(
    "declare",
    [
        durable.function,
        lambda name: durable.function("f", name=name),
        durable.on,
        durable.CancelOn,
        durable.step,
        lambda name: durable.Engine("memory://", app=name),
        lambda name: durable.Engine("memory://", version=name),
    ],
)
def test_half_a_surrogate_pair_is_refused_where_it_is_declared(declare):
    with pytest.raises(durable.ConfigError, match=r"got '.*udcff'"):
        declare("\udcff")
