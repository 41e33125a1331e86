"""Other systems' names for fields, domains, schedules and algorithms, with Hippo's equivalents.

They come from Optuna, Ray Tune, Hyperopt, Katib, W&B and PyTorch. Names are compared without case,
``_`` and ``-``. Each hint ends a message: ``; write {choices: [...]}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hippo.model.words import bare, did_you_mean

_UNIFORM = "{uniform: {low: ..., high: ...}}"
_LOG = "{uniform: {low: ..., high: ..., log: true}}"
_INT = "{int: {low: ..., high: ...}}, high included"
_INT_STEP = "{int: {low: ..., high: ..., step: ...}}, high included"
_INT_LOG = "{int: {low: ..., high: ..., log: true}}, high included"
_CHOICES = "{choices: [...]}"
_MULTIPLES = f"{_CHOICES} with every multiple, or for integers {{int: {{low, high, step}}}}"
_NORMAL = f"{_CHOICES} or {_UNIFORM}: there is no normal distribution"

_DOMAINS = {
    "float": _UNIFORM,
    "double": _UNIFORM,
    "real": _UNIFORM,
    "range": _UNIFORM,
    "loguniform": _LOG,
    "uniformlog": _LOG,
    "log": _LOG,
    "reciprocal": _LOG,
    "loguniformvalues": _LOG,
    "quniform": _MULTIPLES,
    "qloguniform": _MULTIPLES,
    "discreteuniform": _MULTIPLES,
    "randint": _INT,
    "uniformint": _INT,
    "intuniform": _INT,
    "integer": _INT,
    "qrandint": _INT_STEP,
    "quniformint": _INT_STEP,
    "lograndint": _INT_LOG,
    "qlograndint": _INT_LOG,
    "choice": _CHOICES,
    "categorical": _CHOICES,
    "discrete": _CHOICES,
    "ordinal": _CHOICES,
    "gridsearch": _CHOICES,
    "grid": _CHOICES,
    "values": _CHOICES,
    "list": _CHOICES,
    "samplefrom": _CHOICES,
    "constant": "{choices: [...]} with that one value",
    "const": "{choices: [...]} with that one value",
    "fixed": "{choices: [...]} with that one value",
    "value": "{choices: [...]} with that one value",
    "normal": _NORMAL,
    "qnormal": _NORMAL,
    "randn": _NORMAL,
    "qrandn": _NORMAL,
    "lognormal": _NORMAL,
    "qlognormal": _NORMAL,
    "truncatednormal": _NORMAL,
}

_TPE = "{name: optuna, sampler: tpe}"
_GP = "{name: optuna, sampler: gp}"
_ASHA = "{name: asha, minSteps: ...}"
_PBT = "{name: pbt, population: ..., interval: ...}"
_ALGORITHMS = {
    "tpe": _TPE,
    "hyperopt": _TPE,
    "multivariatetpe": _TPE,
    "bayesian": f"{_TPE} or {_GP}",
    "bayes": f"{_TPE} or {_GP}",
    "bayesopt": f"{_TPE} or {_GP}",
    "bayesianoptimization": f"{_TPE} or {_GP}",
    "bo": f"{_TPE} or {_GP}",
    "gp": _GP,
    "gaussianprocess": _GP,
    "skopt": _GP,
    "ax": _GP,
    "botorch": _GP,
    "cmaes": "{name: optuna, sampler: cmaes}",
    "cma": "{name: optuna, sampler: cmaes}",
    "qmc": "{name: optuna, sampler: qmc}",
    "sobol": "{name: optuna, sampler: qmc}",
    "halton": "{name: optuna, sampler: qmc}",
    "quasirandom": "{name: optuna, sampler: qmc}",
    "gridsearch": "{name: grid}",
    "bruteforce": "{name: grid}",
    "exhaustive": "{name: grid}",
    "randomsearch": "{name: random}",
    "fifo": "{name: random}",
    "basicvariant": "{name: grid} or {name: random}",
    "asynchyperband": _ASHA,
    "asynchronoushyperband": _ASHA,
    "asynchronoussuccessivehalving": _ASHA,
    "successivehalving": "{name: sha, minSteps: ...} or " + _ASHA,
    "halving": "{name: sha, minSteps: ...} or " + _ASHA,
    "successivehalvingpruner": _ASHA,
    "hyperbandpruner": "{name: hyperband, minSteps: ...}",
    "bohb": f"{{name: hyperband, minSteps: ...}} or {_TPE}: there is no mixture of the two",
    "hyperbandforbohb": "{name: hyperband, minSteps: ...}",
    "dehb": "{name: hyperband, minSteps: ...}",
    "populationbasedtraining": _PBT,
    "populationbased": _PBT,
    "pb2": _PBT,
    "medianstopping": "{name: median, every: ...}",
    "medianstop": "{name: median, every: ...}",
    "medianpruner": "{name: median, every: ...}",
    "medianstoppingrule": "{name: median, every: ...}",
    "manual": "{name: external}",
    "askandtell": "{name: external}",
    "asktell": "{name: external}",
}
_ALGORITHM_ENDINGS = ("sampler", "search", "scheduler", "algorithm", "tuner")

_SEVERAL = "{piecewise: [[0, ...], [100, ...]]}, whose values may be schedules"
_SCHEDULES = {
    "steplr": "{step: {initial, gamma, every}}",
    "stepdecay": "{step: {initial, gamma, every}}",
    "multisteplr": "{multistep: {initial, gamma, milestones}}",
    "exp": "{exponential: {initial, gamma}}",
    "polynomialdecay": "{polynomial: {initial, final, steps, power}}",
    "poly": "{polynomial: {initial, final, steps, power}}",
    "cosineannealing": "{cosine: {initial, final, steps}}",
    "cosinedecay": "{cosine: {initial, final, steps}}",
    "cosineannealingwarmrestarts": f"{_SEVERAL}, here cosine",
    "cosinerestarts": f"{_SEVERAL}, here cosine",
    "sgdr": f"{_SEVERAL}, here cosine",
    "onecycle": "{warmup: {from, steps, to, then: {cosine: {initial, final, steps}}}}",
    "linearwarmup": "{warmup: {from, steps, to, then}}",
    "warmupcosine": "{warmup: {from, steps, to, then: {cosine: {initial, final, steps}}}}",
    "cosinewarmup": "{warmup: {from, steps, to, then: {cosine: {initial, final, steps}}}}",
    "cosinewithwarmup": "{warmup: {from, steps, to, then: {cosine: {initial, final, steps}}}}",
    "triangular": "{cyclic: {low, high, up, down}}",
    "constant": "the plain value",
    "piecewiseconstant": "{piecewise: [[0, 0.1], [100, 0.01]]}",
    "sequential": _SEVERAL,
    "chained": _SEVERAL,
    "lambda": _SEVERAL,
    "reducelronplateau": "{multistep: ...} or {piecewise: ...}: schedules cannot depend on results",
}

_FIELDS = {
    "eta_min": "final",
    "end": "final",
    "end_lr": "final",
    "target": "final",
    "stop": "final",
    "start": "initial",
    "base": "initial",
    "lr": "initial",
    "value": "initial",
    "t_max": "steps",
    "total_iters": "steps",
    "total_steps": "steps",
    "decay_steps": "steps",
    "length": "steps",
    "step_size": "every",
    "interval": "every",
    "factor": "gamma",
    "decay": "gamma",
    "decay_rate": "gamma",
    "boundaries": "milestones",
    "steps": "milestones",
    "base_lr": "low",
    "max_lr": "high",
    "min": "low",
    "minimum": "low",
    "lower": "low",
    "max": "high",
    "maximum": "high",
    "upper": "high",
    "step_size_up": "up",
    "step_size_down": "down",
    "q": "step",
    "quantum": "step",
    "log_scale": "log",
    "logarithmic": "log",
    "warmup_steps": "steps",
    "after": "then",
}
_FIELDS = {bare(name): known for name, known in _FIELDS.items()}

_STUDY_FIELDS = {
    "ntrials": "maxTrials",
    "numtrials": "maxTrials",
    "numsamples": "maxTrials",
    "maxtrialcount": "maxTrials",
    "maxfailedtrialcount": "maxFailedTrials",
    "paralleltrialcount": "parallelism",
    "maxconcurrent": "parallelism",
    "maxconcurrenttrials": "parallelism",
    "workers": "parallelism",
    "njobs": "parallelism",
    "epochs": "steps",
    "maxsteps": "steps",
    "iterations": "steps",
    "searchspace": "space",
    "parameters": "space",
    "params": "space",
    "paramspace": "space",
    "hyperparameters": "space",
    "tuner": "algorithm",
    "searchalg": "algorithm",
    "scheduler": "algorithm",
    "timeout": "budget.wallTime",
    "direction": "goal",
    "mode": "goal",
    "type": "goal",
    "objectivemetricname": "metric",
    "maxresource": "steps",
    "maxt": "steps",
    "minresource": "minSteps",
    "graceperiod": "minSteps",
    "reductionfactor": "eta",
    "populationsize": "population",
    "perturbationinterval": "interval",
    "maxretries": "retries",
    "maxfailures": "retries",
    "class": "entrypoint",
    "args": "config",
}


def domain_hint(name: object, known: set[str] | frozenset[str]) -> str:
    """Returns a hint how to write a domain that another system calls ``name``, or ""."""
    found = _translated(name, _DOMAINS, ())
    return f"; write {found}" if found is not None else did_you_mean(name, known)


def domains_hint(written: Mapping[Any, Any], known: set[str] | frozenset[str]) -> str:
    """Like ``domain_hint`` for a mapping that should be a domain and has none of its keys."""
    names = {bare(str(key)): key for key in written}
    for key in ("type", "distribution", "parametertype", "name", "dist"):
        kind = written.get(names.get(key))
        if isinstance(kind, str):
            exact = f"{{{kind}: ...}}"
            return f"; write {exact}" if kind in known else domain_hint(kind, known)
    if {"low", "high"} <= names.keys() or {"min", "max"} <= names.keys():
        return f"; write {_LOG if 'log' in names else _UNIFORM}"
    return domain_hint(next(iter(written)), known) if len(written) == 1 else ""


def algorithm_hint(name: object, known: set[str]) -> str:
    """Returns a hint how to write an algorithm that another system calls ``name``, or ""."""
    found = _translated(name, _ALGORITHMS, _ALGORITHM_ENDINGS)
    if found is None and isinstance(name, str):
        ends = [end for end in _ALGORITHM_ENDINGS if bare(name).endswith(end)]
        exact = {bare(one): one for one in known}
        cut = [exact[rest] for end in ends if (rest := bare(name)[: -len(end)]) in exact]
        found = f"{{name: {cut[0]}}}" if cut else None
    return f"; write {found}" if found is not None else did_you_mean(name, known)


def schedule_hint(name: object, known: set[str], domains: set[str] | frozenset[str]) -> str:
    """Like ``domain_hint`` for a schedule or domain that another system calls ``name``."""
    found = _translated(name, _SCHEDULES, ("lr", "scheduler", "schedule", "decay", "annealing"))
    if found is not None:
        return f"; write {found}"
    if isinstance(name, str):
        cut = bare(name).removesuffix("scheduler").removesuffix("schedule").removesuffix("lr")
        if cut in known and cut != name:
            return f"; did you mean {cut}?"
    if _translated(name, _DOMAINS, ()) is not None:
        return domain_hint(name, domains)
    return did_you_mean(name, [*known, *domains])


def field_hint(name: object, known: list[str] | tuple[str, ...]) -> str:
    """Returns a hint at the known field of a schedule or domain that ``name`` means, or ""."""
    translated = _FIELDS.get(bare(str(name)))
    if translated in known:
        return f"; did you mean {translated}?"
    return did_you_mean(name, known)


def study_field(name: str, known: list[str]) -> str | None:
    """Returns the known field of a study that another system calls ``name``, or None."""
    translated = _STUDY_FIELDS.get(bare(name))
    first = translated.partition(".")[0] if translated is not None else None
    return translated if first in known else None


def _translated(name: object, table: dict[str, str], endings: tuple[str, ...]) -> str | None:
    if not isinstance(name, str):
        return None
    written = bare(name.rpartition(".")[2])  # tune.loguniform, hp.choice, optim.StepLR
    for start in ("", "suggest"):
        key = written.removeprefix(start)
        if key in table:
            return table[key]
        for end in endings:
            if key.removesuffix(end) in table:
                return table[key.removesuffix(end)]
    return None
