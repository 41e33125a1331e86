"""CEL rules for what a schema cannot say: what may change, and what must agree.

Each is checked by the API server, so that ``kubectl apply`` refuses what breaks it, with the path.
They reach no further than typed fields; below a place that takes a value or a schedule there are
none. Costs are estimated from the sizes that the schema allows, and capped, hence some bounds.
"""

from __future__ import annotations

from typing import Any

from hippo.model import AlgorithmSettings, StudySpec
from hippo.model.algorithms import SAMPLER_SETTINGS
from hippo.model.bounds import MAX_DAYS, MAX_MARKS
from hippo.model.fields import SECONDS
from hippo.model.study import MAX_NAME

Rule = dict[str, Any]

MAX_TRIAL_NAME = 63
"""A label's value holds no more."""

EDITABLE = frozenset({"parallelism", "priority", "suspend", "budget", "maxFailedTrials"})
"""Fields of a study that may change at any time; maxTrials may grow."""

_LABEL = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"


def rule(expression: str, message: str, field: str = "") -> Rule:
    return {"rule": expression, "message": message, **({"fieldPath": field} if field else {})}


def name_rules(most: int) -> list[Rule]:
    return [
        rule(
            f"self.metadata.name.size() <= {most}",
            f"metadata.name must have at most {most} characters",
        ),
        rule(
            f"self.metadata.name.matches('{_LABEL}')",
            "metadata.name must consist of lower-case letters, digits and '-', and begin and end"
            " with a letter or digit",
        ),
    ]


def study_rules() -> list[Rule]:
    """Of ``spec`` in a Study."""
    return [*_immutable_fields(), _growing_trials(), *_agreeing_steps(), *_agreeing_space()]


def _immutable_fields() -> list[Rule]:
    fields = {field.alias or name: field for name, field in StudySpec.model_fields.items()}
    return [
        rule(
            _unchanged(name, None if field.is_required() else field.default),
            "may not change; make another study instead",
            f".{name}",
        )
        for name, field in fields.items()
        if name not in {*EDITABLE, "maxTrials", "trainer"}
    ]


def trainer_rule() -> Rule:
    """Of the whole Study: whether anything was trained, only its status knows."""
    untrained = " && ".join(
        f"oldSelf.status.?{field}.orValue(0) == 0" for field in ("stepsTrained", "stepsReached")
    )
    return rule(
        f"self.spec.trainer == oldSelf.spec.trainer || !has(oldSelf.status) || {untrained}",
        "may not change once anything was trained; make another study instead",
        ".spec.trainer",
    )


def _unchanged(name: str, default: Any) -> str:
    """To write a default is no change."""
    if default is None:
        return f"self.{name} == oldSelf.{name}"
    if isinstance(default, int):
        return f"self.?{name}.orValue({default}) == oldSelf.?{name}.orValue({default})"
    return (
        f"has(self.{name}) == has(oldSelf.{name}) &&"
        f" (!has(self.{name}) || self.{name} == oldSelf.{name})"
    )


def _growing_trials() -> Rule:
    return rule(
        "!has(self.maxTrials) || has(oldSelf.maxTrials) && self.maxTrials >= oldSelf.maxTrials",
        "may only grow; absent means all",
        ".maxTrials",
    )


def _agreeing_steps() -> list[Rule]:
    def path(field: str) -> str:
        return f".algorithm.{field}"

    algorithm = "self.algorithm"
    rules = [
        rule(
            f"!has({algorithm}.minSteps) || {algorithm}.minSteps <= self.steps",
            "must be at most spec.steps",
            path("minSteps"),
        )
    ]
    for field in ("every", "interval"):
        rules += [
            rule(
                f"!has({algorithm}.{field}) || {algorithm}.{field} < self.steps",
                "must be less than spec.steps",
                path(field),
            ),
            rule(
                f"!has({algorithm}.{field}) ||"
                f" (self.steps - 1) / {algorithm}.{field} <= {MAX_MARKS}",
                f"must be greater, so that a trial is looked at no more than {MAX_MARKS:,} times",
                path(field),
            ),
        ]
    return rules


def _agreeing_space() -> list[Rule]:
    settings = AlgorithmSettings.NAMED
    enumerating = _listed(name for name, model in settings.items() if not model.samples)
    free = _listed(name for name, model in settings.items() if not model.samples or model.bounded)
    finite = "self.space.all(name, !has(self.space[name].uniform))"
    return [
        rule(
            f"!(self.algorithm.name in {enumerating}) || {finite}",
            "grid cannot enumerate a uniform domain; list choices instead, or use another"
            " algorithm, such as random",
            ".space",
        ),
        rule(
            f"has(self.maxTrials) || self.algorithm.name in {free} || {finite}",
            "maxTrials is missing: it must bound a space with a uniform domain",
        ),
        rule(
            "self.algorithm.name != 'pbt' || !has(self.maxTrials)",
            "must be left out: pbt makes as many trials as its population, and another for each"
            " that it replaces",
            ".maxTrials",
        ),
    ]


def space_rules() -> list[Rule]:
    return [
        rule(
            "self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$'))",
            "names of hyper-parameters consist of letters, digits and underscores, and begin with a"
            " letter",
        ),
        rule(
            "self.all(name, !(name in ['false', 'true']))",
            "a name is true or false: put y, n, yes, no, on and off in quotes, which kubectl takes"
            " for these otherwise",
        ),
    ]


def objective_rules() -> list[Rule]:
    return [
        rule(
            "!has(self.testMetric) || self.testMetric != self.metric",
            "must not be the metric that trials compete by",
            ".testMetric",
        )
    ]


def algorithm_rules() -> list[Rule]:
    """Which settings an algorithm needs, and which it knows."""
    takers: dict[str, list[str]] = {}
    needed: dict[str, list[str]] = {}
    for name, model in sorted(AlgorithmSettings.NAMED.items()):
        for field, info in model.model_fields.items():
            if field != "name":
                alias = info.alias or field
                takers.setdefault(alias, []).append(name)
                if info.is_required():
                    needed.setdefault(alias, []).append(name)
    rules = []
    for field, names in takers.items():
        if field in needed:
            rules.append(
                rule(
                    f"has(self.{field}) || !(self.name in {_listed(needed[field])})",
                    f"{field} is missing: {_spoken(needed[field])} cannot do without",
                )
            )
        rules.append(
            rule(
                f"!has(self.{field}) || self.name in {_listed(names)}",
                f"is a setting of {_spoken(names)} only",
                f".{field}",
            )
        )
    return [*rules, *_sampler_rules()]


def _sampler_rules() -> list[Rule]:
    """Which settings a sampler of Optuna's knows."""
    takers: dict[str, list[str]] = {}
    for sampler, known in SAMPLER_SETTINGS.items():
        for setting in known:
            takers.setdefault(setting, []).append(sampler)
    return [
        rule(
            f"!has(self.settings) || !has(self.settings.{setting}) ||"
            f" has(self.sampler) && self.sampler in {_listed(samplers)}",
            f"is a setting of {_spoken(samplers)} only",
            f".settings.{setting}",
        )
        for setting, samplers in sorted(takers.items())
    ]


def trial_rules() -> list[Rule]:
    """Of ``spec`` in a Trial."""
    return [
        rule("self.study == oldSelf.study", "may not change", ".study"),
        rule(
            "self.hyperparameters == oldSelf.hyperparameters",
            "may not change; make another trial instead",
            ".hyperparameters",
        ),
        rule("self.steps >= oldSelf.steps", "may only grow", ".steps"),
        rule(
            "!oldSelf.?stop.orValue(false) || self.?stop.orValue(false) || has(self.decisions)",
            "may not be taken back; make another trial instead",
            ".stop",
        ),
        *(
            rule(
                f"!has(oldSelf.{field}) || has(self.{field}) && self.{field} == oldSelf.{field}",
                "may not change",
                f".{field}",
            )
            for field in ("index", "parent", "seed")
        ),
        rule(
            "!has(oldSelf.decisions) ||"
            " has(self.decisions) && self.decisions.size() >= oldSelf.decisions.size()",
            "may only grow",
            ".decisions",
        ),
    ]


def factor_rules() -> list[Rule]:
    return [rule("self != 1.0", "must not be 1, which changes nothing")]


def duration_rules(*, positive: bool) -> list[Rule]:
    units = ", ".join(f"'{unit}': {float(length)}" for unit, length in SECONDS.items())
    parts = (
        "self.findAll('[0-9.]+[smhd]').map(part, double(part.substring(0, part.size() - 1)) *"
        f" {{{units}}}[part.substring(part.size() - 1)])"
    )
    most = rule(
        f"{parts}.sum() <= {float(MAX_DAYS * SECONDS['d'])}", f"must be at most {MAX_DAYS}d"
    )
    return [most, *([rule("self.matches('[1-9]')", "must be longer than nothing")] * positive)]


def decision_rules() -> list[Rule]:
    return [rule("self == oldSelf", "a decision that was made may not change")]


def plan_rules() -> list[Rule]:
    """Of ``spec`` in a SearchPlan."""
    return [rule("self.signature == oldSelf.signature", "may not change", ".signature")]


def _listed(names: Any) -> str:
    return "[" + ", ".join(f"'{name}'" for name in sorted(names)) + "]"


def _spoken(names: list[str]) -> str:
    *rest, last = sorted(names)
    return f"{', '.join(rest)} and {last}" if rest else last


STUDY_NAME_RULES = name_rules(MAX_NAME)
TRIAL_NAME_RULES = name_rules(MAX_TRIAL_NAME)
