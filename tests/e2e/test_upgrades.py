"""From the last release's commit to this one in mid-study, and back: charts, images, CRDs."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hippo.kube import names
from tests.builds import Impossible, skip_or_fail
from tests.cluster import Cluster, earlier
from tests.cluster.commands import CommandFailed, run
from tests.e2e.releases import CHART, KEYS, Document, Release, image_values
from tests.e2e.site import Site

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
]
UNIQUE_STEPS = 12 + 6 + 3
NEWER = names.CLUSTER_FORMAT + 1
PLANS = "searchplans.hippo.dev"


@pytest.fixture(scope="module")
def before(cluster: Cluster) -> Path:
    """The sources of the earlier Hippo, whose images the node has."""
    if cluster.minio_url is None:
        pytest.skip("this test needs the cluster's own node, for images of an earlier commit")
    try:
        earlier.bring_images()
        return earlier.unpack()
    except Impossible as reason:
        skip_or_fail(reason)


@pytest.fixture
def team(cluster: Cluster, crds: None) -> Iterator[Site]:
    site = Site(cluster, f"team-{uuid.uuid4().hex[:6]}", Path("/nonexistent"))
    site.set_up()
    yield site
    site.tear_down()


@pytest.fixture
def release(cluster: Cluster, team: Site, before: Path) -> Iterator[Release]:
    """Of the earlier chart and operator."""
    found = Release(cluster, f"hippo-{uuid.uuid4().hex[:6]}", chart=before / "charts" / "hippo")
    found.set_up()
    team.read_log = found.read_log
    found.values = {
        "image": image_values(earlier.OPERATOR),
        "watchNamespaces": [team.namespace],
        "store": {
            "url": team.url,
            "endpoint": cluster.minio_url,
            "existingSecret": KEYS,
        },
        "resync": 10,
        "stagePods": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "crds": {"install": False},
        "rbac": {"aggregateRoles": False},
    }
    found.install(found.values)
    yield found
    found.tear_down()


def use_this_version(release: Release) -> None:
    release.chart = CHART
    release.values = {**release.values, "image": image_values(release.cluster.operator_image)}


def begin(team: Site, sleep: float = 2.0) -> str:
    """A study whose pods run the earlier trainer image; returns its plan."""
    trainer = {"image": earlier.TRAINER}
    team.apply(team.study("steady", {"lr": LRS}, config={"sleep": sleep}, trainer=trainer))
    team.wait_until(lambda: at_work(team), "a pod is at work")
    team.wait_for("steady", "Running")
    return team.plan_name("steady")


def at_work(team: Site) -> set[str]:
    return {
        pod["metadata"]["name"]
        for pod in team.pods("steady")
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
    }


def recorded(team: Site, plan: str) -> Document:
    """Of a SearchPlan, all but what says that it is left alone."""
    status: Document = {**team.get("searchplan", plan)["status"], "conditions": None}
    return status


def check_exact(team: Site, plan: str) -> None:
    assert team.wait_for("steady", "Succeeded", "Failed")["phase"] == "Succeeded"
    team.check_results("steady")
    assert team.count_trained(plan) == UNIQUE_STEPS, "nothing is trained twice"


def test_a_study_goes_on_through_an_upgrade_and_back(release: Release, team: Site) -> None:
    """Both know the same formats: whoever comes takes up what is at work."""
    plan = begin(team, sleep=4.0)
    for chart, image in (
        (CHART, release.cluster.operator_image),
        (release.chart, earlier.OPERATOR),
    ):
        running = at_work(team)
        assert running
        release.keep_log()
        release.chart = chart
        release.upgrade({"image": image_values(image)})
        recorded_chains = {chain["name"] for chain in recorded(team, plan)["chains"]}
        left = {pod for pod in running if not any(pod.endswith(c) for c in recorded_chains)}
        gone = [pod for pod in team.pods("steady") if pod["metadata"]["name"] in left]
        assert all(pod["status"]["phase"] == "Succeeded" for pod in gone), "it has ended by itself"
        assert team.status("steady")["phase"] in ("Running", "Succeeded")
    check_exact(team, plan)
    assert "Traceback" not in release.read_log()


def test_what_a_newer_version_works_on_is_refused_and_goes_on_when_it_is_back(
    release: Release, team: Site
) -> None:
    plan = begin(team)
    release.uninstall()
    set_format(team, plan, NEWER)  # as a version does that changes it
    before = recorded(team, plan)

    release.install(release.values)  # the earlier one
    team.wait_until(lambda: team.told("steady", names.REASON_NEWER), "it says that it refuses")
    (line,) = team.told("steady", names.REASON_NEWER).splitlines()
    assert f"was written by a newer Hippo (format {NEWER}" in line
    assert "run that version of the operator again" in line

    release.keep_log()
    use_this_version(release)
    release.upgrade({"image": release.values["image"]})
    message = team.wait_for_condition("steady", names.PROGRESSING, "False", names.REASON_NEWER)
    assert message == line
    assert team.status("steady")["message"] == line
    told = {c["type"]: c for c in team.get("searchplan", plan)["status"]["conditions"]}
    assert told[names.PROGRESSING]["reason"] == names.REASON_NEWER
    assert recorded(team, plan) == before
    assert "forbidden" not in release.read_log().lower()

    set_format(team, plan, names.CLUSTER_FORMAT)
    check_exact(team, plan)
    told = {c["type"]: c for c in team.get("searchplan", plan)["status"]["conditions"]}
    assert told[names.PROGRESSING]["reason"] != names.REASON_NEWER


def set_format(team: Site, plan: str, version: int) -> None:
    patch = json.dumps({"status": {"formatVersion": version}})
    words = ("patch", "searchplan", plan, "--subresource=status", "--type=merge", "-p", patch)
    team.kubectl(*words)


def test_charts_refuse_newer_definitions(before: Path, team: Site) -> None:
    """Of a cluster where a newer chart was installed: they would put older ones in their place."""
    values = {
        "image": image_values(earlier.OPERATOR),
        "store": {"url": team.url, "existingSecret": KEYS},
        "crds": {"install": True},
    }
    found = {}
    annotate(team.cluster, NEWER)
    try:
        for chart in (CHART, before / "charts" / "hippo"):
            with pytest.raises(CommandFailed) as caught:
                render_for(team, chart, values)
            found[chart] = str(caught.value)
    finally:
        annotate(team.cluster, names.CLUSTER_FORMAT)
    told = f"the CRDs in this cluster are of a newer Hippo (format {NEWER}, this chart has"
    for text in found.values():
        assert told in text
        assert "install that version of the chart, or a newer one" in text


def render_for(team: Site, chart: Path, values: Document) -> None:
    """What would be installed, as the API server sees it."""
    cluster, options = team.cluster, ("--dry-run=server", "--values=-")
    helm = (cluster.bin / "helm", "--kubeconfig", cluster.kubeconfig, "-n", team.namespace)
    run([*helm, "install", "newer", chart, *options], input=json.dumps(values), timeout=60)


def annotate(cluster: Cluster, version: int) -> None:
    annotation = f"{names.ANNOTATION_FORMAT}={version}"
    cluster.kubectl("annotate", "crd", PLANS, annotation, "--overwrite")


def test_an_image_without_hippo_is_charged_to_no_trial(site: Site) -> None:
    site.start_operator()
    trainer = {"image": site.cluster.images.minio}
    site.apply(site.study("steady", {"lr": LRS}, trainer=trainer, retries=0))
    message = site.wait_for_condition(
        "steady", names.PROGRESSING, "False", names.REASON_IMAGE_UNFIT
    )
    assert "does not fit this operator: it cannot run python3" in message
    status = site.status("steady")
    assert (status["phase"], status["trials"]["failed"]) == ("Running", 0)
    pods = {pod["metadata"]["name"] for pod in site.pods("steady")}

    site.patch("study", "steady", {"parallelism": 1})  # it is tried again
    site.wait_until(
        lambda: {pod["metadata"]["name"] for pod in site.pods("steady")} - pods, "another pod"
    )
    site.patch("study", "steady", {"trainer": {"image": site.cluster.trainer_image}})
    assert site.wait_for("steady", "Succeeded", "Failed")["phase"] == "Succeeded"
    site.check_results("steady")
