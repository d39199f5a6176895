"""The testing kit: a virtual clock, stubs, crashes, and the exam that every store sits.

It imports anything of durable, and nothing of durable imports it.
"""

from durable.testing.clock import VirtualClock as VirtualClock
from durable.testing.engine import Stuck as Stuck
from durable.testing.engine import TestEngine as TestEngine
from durable.testing.faults import crash_points as crash_points
