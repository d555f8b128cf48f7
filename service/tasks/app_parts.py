"""The parts of the service that use cases work with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.engine.engine import Engine
from service.metrics import Metrics
from service.settings import Settings
from service.store_access import StoreAccess
from service.tasks.adapters import Adapters
from service.tasks.answer_ids import AnswerIds
from service.tasks.examples_in_memory import ExamplesInMemory
from service.tasks.recent_queries import RecentQueries

if TYPE_CHECKING:  # it works with the parts itself
    from service.tasks.first_use import Readapts


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts that ``create_app`` has put together."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    adapters: Adapters
    access: StoreAccess
    examples: ExamplesInMemory
    readapts: "Readapts"
    answer_ids: AnswerIds
    recent: RecentQueries
