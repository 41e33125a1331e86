"""A ValidatingAdmissionPolicy for what rules within the CRDs cannot reach: places without a type.

Optional. Without it the operator refuses the same by a condition, a moment later; a Trial whose
hyper-parameter is renamed it refuses in any case. It looks at choices themselves, not at schedules
within schedules.
"""

from __future__ import annotations

from typing import Any

from hippo.kube.names import GROUP, STUDIES, TRIALS, VERSION

_NAME = f"specs.{GROUP}"

_DOMAIN = "variables.space[name]"
_CHOICES = f"(has({_DOMAIN}.choices) ? {_DOMAIN}.choices : [])"

# What is wrong with a domain, in words and in CEL.
_DOMAINS: dict[str, tuple[str, str]] = {
    "twice": (
        "has the same choice twice",
        f"!{_CHOICES}.all(choice, {_CHOICES}.exists_one(other, other == choice))",
    ),
    "scheduled": (
        "has a schedule among its choices, but is static",
        f"has({_DOMAIN}.static) && {_DOMAIN}.static &&"
        f" {_CHOICES}.exists(choice, type(choice) == map)",
    ),
    "milestones": (
        "has milestones that do not ascend",
        f"{_CHOICES}.exists(choice, type(choice) == map && has(choice.multistep) &&"
        " type(choice.multistep.milestones) == list &&"
        " (!choice.multistep.milestones.isSorted() || !choice.multistep.milestones.all(step,"
        " choice.multistep.milestones.exists_one(other, other == step))))",
    ),
    "beginnings": (
        "has a piecewise whose first entry does not begin at 0, or whose steps do not ascend",
        f"{_CHOICES}.exists(choice, type(choice) == map && has(choice.piecewise) &&"
        " (choice.piecewise[0][0] != 0 || !choice.piecewise.map(entry, entry[0]).isSorted() ||"
        " !choice.piecewise.all(entry,"
        " choice.piecewise.exists_one(other, other[0] == entry[0]))))",
    ),
}

_FORBIDDEN = ["hostIPC", "hostNetwork", "hostPID", "serviceAccount", "serviceAccountName"]


def build_policies() -> list[dict[str, Any]]:
    """The policy and its binding, which denies."""
    variables = {
        "space": "has(object.spec.space) ? object.spec.space : {}",
        "template": "has(object.spec.trainer) && has(object.spec.trainer.podTemplate) ?"
        " object.spec.trainer.podTemplate : {}",
        "pod": "'spec' in variables.template && type(variables.template.spec) == map ?"
        " variables.template.spec : variables.template",
        "forbidden": f"{_FORBIDDEN}.filter(field, field in variables.pod)",
        **{
            name: f"variables.space.filter(name, {expression})"
            for name, (_, expression) in _DOMAINS.items()
        },
    }
    validations = [
        {
            "expression": "request.operation != 'UPDATE' || !has(object.spec.hyperparameters) ||"
            " object.spec.hyperparameters == oldObject.spec.hyperparameters",
            "message": "spec.hyperparameters: may not change; make another trial instead",
        },
        {
            "expression": "variables.forbidden.size() == 0",
            "messageExpression": "'spec.trainer.podTemplate: no pod of a study may have ' +"
            " variables.forbidden[0]",
        },
        *(
            {
                "expression": f"variables.{name}.size() == 0",
                "messageExpression": f"'spec.space.' + variables.{name}[0] + ': {message}'",
            }
            for name, (message, _) in _DOMAINS.items()
        ),
    ]
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": _NAME},
        "spec": {
            # What cannot be evaluated here is the operator's to refuse, with the whole path.
            "failurePolicy": "Ignore",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [GROUP],
                        "apiVersions": [VERSION],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": [STUDIES, TRIALS],
                    }
                ]
            },
            "variables": [
                {"name": name, "expression": expression} for name, expression in variables.items()
            ],
            "validations": validations,
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": _NAME},
        "spec": {"policyName": _NAME, "validationActions": ["Deny"]},
    }
    return [policy, binding]
