"""The generated files: what stands in ``crds/``, and in the chart.

Tests fail where the committed files differ from these, so a change of a model brings theirs along.
"""

from __future__ import annotations

from hippo.kube.crds.admission_policy import build_policies
from hippo.kube.crds.definitions import build_crds
from hippo.kube.crds.rendering import render


def crd_files() -> dict[str, str]:
    """Contents by name: a file for each kind."""
    command = "hippo crds --directory crds"
    return {f"{crd['metadata']['name']}.yaml": render(crd, command=command) for crd in build_crds()}


def policy_files() -> dict[str, str]:
    """Contents by name: a file with the policy and its binding."""
    policies = build_policies()
    command = "hippo crds --policies --directory crds/policies"
    return {f"{policies[0]['metadata']['name']}.yaml": render(*policies, command=command)}
