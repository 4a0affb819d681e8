"""Is a batch of labelled pictures fit to be trained on? Rules, measures, a verdict, a page.

`check_purity` judges any dataset, on disk or from the store; `traffic-vision cloud check` and the stage
`purity` call it. What is looked for, and with which limits: `cloud.config.PurityConfig`; why: docs/purity.md.
"""

from cloud.pipeline.purity.duplicates import difference_hash
from cloud.pipeline.purity.pictures import ImpureError, LabelRules, listed
from cloud.pipeline.purity.splits import drives_on_both_sides

__all__ = [
    "ImpureError",
    "LabelRules",
    "difference_hash",
    "drives_on_both_sides",
    "listed",
]
