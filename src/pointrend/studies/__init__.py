"""The paper's studies on data at hand: subdivision, sampling, feature maps, and the cost of mask heads."""

from __future__ import annotations

from pointrend.studies.cost import Cost, mask_head_costs
from pointrend.studies.subdivision import subdivision_study
from pointrend.studies.table import Spread, StudyTable
from pointrend.studies.trained import TRAINED_STUDIES, Variant, compare_variants, trained_study

__all__ = [
    "TRAINED_STUDIES",
    "Cost",
    "Spread",
    "StudyTable",
    "Variant",
    "compare_variants",
    "mask_head_costs",
    "subdivision_study",
    "trained_study",
]
