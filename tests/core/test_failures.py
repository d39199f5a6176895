import asyncio
import concurrent.futures
import sys
from pathlib import Path

import anyio
import pytest

import durable.failures
from durable.errors import NonRetriableError, SerializationError, StepError
from durable.failures import ErrorRecord, error_record

HOME = Path(durable.failures.__file__).parent


def ours(call):
    """Call it from a frame that looks like one of the engine's."""
    space = {"call": call}
    exec(compile("def inner():\n    return call()\n", str(HOME / "_executor" / "session.py"), "exec"), space)
    return space["inner"]()


def caught(call):
    try:
        call()
    except BaseException as exc:
        return exc
    raise AssertionError


def fail():
    raise ValueError("no such order")


class Nested:
    class Error(Exception):
        pass


def test_a_record():
    record = error_record(caught(fail), step_id="load")
    assert (record.name, record.message, record.step_id) == ("ValueError", "no such order", "load")
    assert record.stack.startswith("Traceback (most recent call last):\n")
    assert record.stack.endswith("ValueError: no such order\n")
    assert "in fail" in record.stack
    assert 'raise ValueError("no such order")' in record.stack
    assert error_record(Nested.Error("x")).name == "Error"
    assert error_record(Nested.Error("x")).step_id is None


def test_our_frames_are_trimmed():
    record = error_record(caught(lambda: ours(lambda: ours(fail))))
    assert "session.py" not in record.stack
    assert "in fail" in record.stack
    trimmed = error_record(caught(lambda: ours(fail)), trim=[str(Path(__file__).parent) + "/"])
    assert trimmed.stack.count('  File "') == 1  # where it was raised is better than nothing


def test_the_plumbing_is_trimmed():
    async def main():
        async with asyncio.timeout(5), anyio.create_task_group() as group:
            group.start_soon(asyncio.to_thread, fail)

    record = error_record(caught(lambda: asyncio.run(main())))
    for plumbing in ("asyncio", "anyio", "concurrent"):
        assert f"/{plumbing}/" not in record.stack
    assert "in fail" in record.stack
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        record = error_record(caught(pool.submit(fail).result))
    assert "concurrent/futures" not in record.stack


def test_what_durable_raises_shows_where_the_user_stood():
    from durable.codec import encode

    def handler():
        encode(object())

    stack = error_record(caught(lambda: ours(handler))).stack
    assert "in handler" in stack
    assert "codec.py" not in stack
    assert "SerializationError" in stack


def test_causes_and_contexts():
    def explicit():
        try:
            ours(fail)
        except ValueError as exc:
            raise KeyError("order") from exc

    def implicit():
        try:
            fail()
        except ValueError:
            raise KeyError("order")  # noqa: B904

    def suppressed():
        try:
            fail()
        except ValueError:
            raise KeyError("order") from None

    stack = error_record(caught(lambda: ours(explicit))).stack
    assert "direct cause" in stack
    assert "no such order" in stack
    assert "session.py" not in stack
    assert "During handling" in error_record(caught(implicit)).stack
    assert "no such order" not in error_record(caught(suppressed)).stack


def test_groups():
    group = caught(
        lambda: (_ for _ in ()).throw(ExceptionGroup("two", [caught(fail), caught(lambda: ours(fail))]))
    )
    record = error_record(group)
    assert (record.name, record.message) == ("ExceptionGroup", "two (2 sub-exceptions)")
    assert record.stack.count("ValueError: no such order") == 2
    assert "session.py" not in record.stack


def test_a_step_error_keeps_its_own():
    step = StepError("no such order", step_id="load", name="OrderError", stack="its own")
    assert error_record(step, step_id="other") == ErrorRecord(
        "OrderError", "no such order", "its own", "load"
    )
    bare = error_record(StepError("x"), step_id="other")
    assert (bare.name, bare.message, bare.step_id) == ("StepError", "x", "other")
    assert "StepError" in bare.stack


def test_a_group_of_step_errors_counts_as_one():
    first = StepError("a", step_id="one", name="ValueError", stack="its own")
    inner = ExceptionGroup("inner", [first])
    record = error_record(ExceptionGroup("outer", [inner, NonRetriableError("b")]))
    assert (record.name, record.message, record.step_id) == ("ValueError", "a", "one")
    assert "inner" in record.stack
    other = error_record(ExceptionGroup("outer", [first, KeyError("mine")]))
    assert other.name == "ExceptionGroup"
    stop = error_record(ExceptionGroup("outer", [NonRetriableError("b")]), step_id="s")
    assert (stop.name, stop.message, stop.step_id) == ("NonRetriableError", "b", "s")


def test_base_exceptions():
    assert error_record(SystemExit(3)).message == "3"
    assert error_record(asyncio.CancelledError()).message == ""
    assert error_record(BaseExceptionGroup("g", [KeyboardInterrupt()])).name == "BaseExceptionGroup"


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


class Liar(Exception):
    def __str__(self):
        return 5  # noqa: PLE0307


class Endless(Exception):
    def __str__(self):
        return str(self)


class Hidden(Exception):
    __cause__ = property(lambda self: 1 / 0)


@pytest.mark.parametrize("kind", [Mute, Liar, Endless])
def test_exceptions_that_cannot_say_what_they_are(kind):
    record = error_record(kind())
    assert record.name == kind.__name__
    assert "cannot be read" in record.message
    record.encode()


def test_exceptions_that_hide_their_stack():
    record = error_record(Hidden("x"))
    assert record.message == "x"
    assert "cannot be shown" in record.stack


def test_everything_is_bounded():
    record = error_record(ValueError("x" * 10**6))
    assert len(record.message) == 65_536
    assert len(record.stack) <= 32_768
    assert "characters left out" in record.stack
    long_name = type("X" * 1_000, (Exception,), {})
    assert len(error_record(long_name()).name) == 255

    def down():
        down()

    record = error_record(caught(down))
    assert record.name == "RecursionError"
    assert len(record.stack) < 2_000


def test_text_that_is_no_unicode():
    record = error_record(ValueError("\ud800"), step_id="\ud800")
    assert ErrorRecord.decode(record.encode()) == record
    assert record.message == "\\ud800"


def test_coding():
    record = error_record(caught(fail), step_id="load")
    assert ErrorRecord.decode(record.encode()) == record
    assert ErrorRecord.from_json(record.as_json()) == record
    assert ErrorRecord.from_json({"name": "a", "message": "b"}) == ErrorRecord("a", "b", None, None)
    for wrong in (b"", b"[]", b"{", b'{"name":1,"message":"x"}', b'{"name":"x"}'):
        with pytest.raises(SerializationError, match="an error record must be"):
            ErrorRecord.decode(wrong)


def test_it_is_a_value():
    record = ErrorRecord("a", "b")
    assert record == ErrorRecord("a", "b")
    assert hash(record)
    assert sys.getsizeof(record) < 200
