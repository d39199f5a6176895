"""What is stored, and what passes the doors of a store: all records, under one name.

Plain frozen values. Everything that users wrote travels as bytes (JSON that was encoded by `codec`), so
that no store needs to understand it. Times are integers: milliseconds since the epoch, or of duration.
They are structs of msgspec: a tenth of what attrs costs to declare and to make, on the hottest of paths.
They may not know a store, an executor, or how values are encoded.
"""

from durable.doors import STAY as STAY
from durable.doors import Admission as Admission
from durable.doors import AdmissionAnswer as AdmissionAnswer
from durable.doors import Admitted as Admitted
from durable.doors import Cancellation as Cancellation
from durable.doors import Candidate as Candidate
from durable.doors import Claim as Claim
from durable.doors import Claimed as Claimed
from durable.doors import Commit as Commit
from durable.doors import CommitAnswer as CommitAnswer
from durable.doors import CommitState as CommitState
from durable.doors import Committed as Committed
from durable.doors import Cursor as Cursor
from durable.doors import Cutoffs as Cutoffs
from durable.doors import Delivery as Delivery
from durable.doors import Duplicate as Duplicate
from durable.doors import End as End
from durable.doors import EventQuery as EventQuery
from durable.doors import Hit as Hit
from durable.doors import New as New
from durable.doors import News as News
from durable.doors import Outcome as Outcome
from durable.doors import Outdated as Outdated
from durable.doors import Park as Park
from durable.doors import Plan as Plan
from durable.doors import Registered as Registered
from durable.doors import Registration as Registration
from durable.doors import Registry as Registry
from durable.doors import Request as Request
from durable.doors import RunQuery as RunQuery
from durable.doors import Signal as Signal
from durable.doors import Stay as Stay
from durable.doors import Then as Then
from durable.doors import Verdict as Verdict
from durable.doors import Waiting as Waiting
from durable.doors import Yield as Yield
from durable.stored import Batch as Batch
from durable.stored import Cause as Cause
from durable.stored import Debounce as Debounce
from durable.stored import Effect as Effect
from durable.stored import Fired as Fired
from durable.stored import History as History
from durable.stored import Latch as Latch
from durable.stored import Memo as Memo
from durable.stored import MemoState as MemoState
from durable.stored import NewEvent as NewEvent
from durable.stored import Parent as Parent
from durable.stored import Rate as Rate
from durable.stored import Rule as Rule
from durable.stored import RunRecord as RunRecord
from durable.stored import RunStatus as RunStatus
from durable.stored import Singleton as Singleton
from durable.stored import Slot as Slot
from durable.stored import StepKind as StepKind
from durable.stored import StoredEvent as StoredEvent
from durable.stored import Throttle as Throttle
from durable.stored import Timer as Timer
from durable.stored import Verb as Verb
from durable.stored import Wait as Wait
