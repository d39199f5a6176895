"""How tests are run: each `async def` test in an event loop of its own; and the stores that tests are given.

`DURABLE_TEST_LOOP=uvloop` (or `eager`: asyncio with the eager task factory, Python 3.12 and later) runs the
whole suite on that loop; `PYTHONASYNCIODEBUG=1` runs it in asyncio's debug mode. A test that takes the
fixture `loop_factory` runs on each loop by itself.
"""

import asyncio
import gc
import importlib.util
import inspect
import os
import sys
import warnings

import pytest

LOOPS = ("asyncio", "uvloop", "eager")


def new_loop(name):
    """A new event loop of the kind `name`."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop()
    loop = asyncio.SelectorEventLoop()
    if name == "eager":
        loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def missing(name):
    """Why this Python has no loop of the kind `name`; ``None`` if it has."""
    if name == "uvloop" and importlib.util.find_spec("uvloop") is None:
        return "uvloop is not installed"
    if name == "eager" and sys.version_info < (3, 12):
        return "the eager task factory came with Python 3.12"
    return None


def pytest_configure():
    name = os.environ.get("DURABLE_TEST_LOOP", "asyncio")
    if name == "asyncio":
        return
    if name not in LOOPS or missing(name):
        raise pytest.UsageError(f"DURABLE_TEST_LOOP={name}: {missing(name) or f'one of {LOOPS}'}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)

        class Policy(asyncio.DefaultEventLoopPolicy):
            def new_event_loop(self):
                return new_loop(name)

        asyncio.set_event_loop_policy(Policy())


def pytest_collection_finish():
    """What is there before the first test need not be searched for garbage: tests that collect do it often."""
    gc.collect()
    gc.freeze()


def pytest_report_header():
    return f"event loop: {os.environ.get('DURABLE_TEST_LOOP', 'asyncio')}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run `async def` tests; no plugin does it."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    with asyncio.Runner(loop_factory=pyfuncitem.funcargs.get("loop_factory")) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(params=LOOPS)
def loop_factory(request):
    """Runs a test on each event loop that this Python has."""
    why = missing(request.param)
    if why:
        pytest.skip(why)
    return lambda: new_loop(request.param)


@pytest.fixture(params=["memory", "sqlite"])
def store_url(request, tmp_path):
    """The URL of an empty store, of each kind in turn. Each ``memory://`` is one of its own: see `store`."""
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'durable.db'}"


@pytest.fixture
def store(store_url):
    """An empty store as an object, which several engines can share, one after another or at once."""
    from durable.urls import store_at

    return store_at(store_url)


@pytest.fixture
def no_blocking():
    """A call that blocks the event loop (a file, a socket, `time.sleep`) fails the test."""
    blockbuster = pytest.importorskip("blockbuster")
    with blockbuster.blockbuster_ctx() as blocker:
        yield blocker
