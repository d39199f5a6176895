"""Durable execution for asyncio: functions, events and memoised steps that survive the process.

The names below are the whole public interface; `durable.testing` holds the kit for tests. Read on in this
order: `engine` (the roof), `steps` and `functions` (what users hold), `_executor` (what acts), `_core` (what
decides), `store` (the contract), `records` (what passes through it).
"""

from durable._core.operations import Signal as Signal
from durable.clock import Clock as Clock
from durable.clock import SystemClock as SystemClock
from durable.context import Context as Context
from durable.context import current as current
from durable.engine import Engine as Engine
from durable.errors import ConfigError as ConfigError
from durable.errors import DurableError as DurableError
from durable.errors import DurableWarning as DurableWarning
from durable.errors import EventRejected as EventRejected
from durable.errors import EventTooLarge as EventTooLarge
from durable.errors import Interrupt as Interrupt
from durable.errors import LimitError as LimitError
from durable.errors import NestedStepError as NestedStepError
from durable.errors import NondeterminismError as NondeterminismError
from durable.errors import NonRetriableError as NonRetriableError
from durable.errors import RetryAfterError as RetryAfterError
from durable.errors import RunCancelled as RunCancelled
from durable.errors import RunFailed as RunFailed
from durable.errors import SerializationError as SerializationError
from durable.errors import SignalConflictError as SignalConflictError
from durable.errors import StepError as StepError
from durable.errors import StoreError as StoreError
from durable.events import Event as Event
from durable.failures import ErrorRecord as ErrorRecord
from durable.flow import CancelOn as CancelOn
from durable.flow import Timeouts as Timeouts
from durable.functions import Function as Function
from durable.functions import FunctionConfig as FunctionConfig
from durable.functions import function as function
from durable.limits import Limits as Limits
from durable.limits import Retention as Retention
from durable.observers import Observer as Observer
from durable.records import RunStatus as RunStatus
from durable.retries import Backoff as Backoff
from durable.runs import Page as Page
from durable.runs import Run as Run
from durable.runs import StepRecord as StepRecord
from durable.steps import step as step
from durable.store import Store as Store
from durable.triggers import cron as cron
from durable.triggers import on as on
