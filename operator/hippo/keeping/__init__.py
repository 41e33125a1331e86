"""What a store keeps, for whom, and what of it may go: between runs, and in a running operator.

``retention`` (beside this package) says what studies in progress need; here it is what they leave.
"""

from hippo.keeping.collecting import Collection, collect, delete_study
from hippo.keeping.eviction import Stored, choose_evictions
from hippo.keeping.holdings import Holdings, build_holdings, read_holdings
from hippo.keeping.intents import Intent, Scope, read_intent
from hippo.keeping.listing import PlanListing, StudyListing, list_store
from hippo.keeping.sweeping import Swept, sweep

__all__ = [
    "Collection",
    "Holdings",
    "Intent",
    "PlanListing",
    "Scope",
    "Stored",
    "StudyListing",
    "Swept",
    "build_holdings",
    "choose_evictions",
    "collect",
    "delete_study",
    "list_store",
    "read_holdings",
    "read_intent",
    "sweep",
]
