"""The objectives: one value each, which decides targets, loss, activation and figures of a task."""

from collections.abc import Mapping

from metalearn.objectives.classification import CLASSIFICATION
from metalearn.objectives.multi_label import MULTI_LABEL
from metalearn.objectives.objective import ObjectiveRules
from metalearn.objectives.regression import REGRESSION
from metalearn.types import Objective

OBJECTIVES: Mapping[Objective, ObjectiveRules] = {
    rules.name: rules for rules in (CLASSIFICATION, MULTI_LABEL, REGRESSION)
}
"""Rules by the objective's name."""
