"""The chart on a real node: one release for most tests, which leave it as they find it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hippo.kube import names
from tests.cluster import Cluster
from tests.cluster.commands import CommandFailed, run
from tests.cluster.places import NODE_ADDRESS
from tests.e2e.apart import run_operator, start_api_server
from tests.e2e.releases import CHART, KEYS, Document, Release, image_values, review
from tests.e2e.scraping import Prometheus, start
from tests.e2e.site import Site
from tests.integration.charts import find, list_queries, read_documents
from tests.minio_server import BUCKET, MinioServer

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
]
NO_PODS = "--wait=hookOnly"
"""For Helm: there are none to wait for."""
UNIQUE_STEPS = 12 + 6 + 3
"""Of all trials of LRS, once merged."""

ALERTS = (
    "HippoChainFailing",
    "HippoOperatorNotReconciling",
    "HippoStoreUnreachable",
    "HippoStudyStalled",
)

USED = {
    "studies.hippo.dev": ("list", "watch"),
    "studies.hippo.dev/status": ("patch",),
    "trials.hippo.dev": ("get", "list", "watch", "create", "patch", "delete"),
    "trials.hippo.dev/status": ("patch",),
    "searchplans.hippo.dev": ("get", "list", "watch", "create", "patch", "delete"),
    "searchplans.hippo.dev/status": ("update",),
    "pods": ("get", "list", "watch", "create", "delete"),
    "events": ("create", "patch"),
}
REFUSED = {
    "studies.hippo.dev": ("create", "update", "patch", "delete", "deletecollection"),
    "pods": ("update", "patch", "deletecollection"),
    "pods/exec": ("create", "get"),
    "pods/log": ("get",),
    "pods/ephemeralcontainers": ("patch", "update"),
    "pods/status": ("patch", "update"),
    "secrets": ("get", "list", "watch", "create", "update", "delete"),
    "configmaps": ("get", "list", "create", "update"),
    "serviceaccounts": ("get", "create"),
    "serviceaccounts/token": ("create",),
    "persistentvolumeclaims": ("get", "create"),
    "events": ("list", "delete"),
    "deployments.apps": ("get", "create", "patch"),
    "jobs.batch": ("create",),
    "roles.rbac.authorization.k8s.io": ("get", "create", "bind", "escalate"),
    "rolebindings.rbac.authorization.k8s.io": ("create",),
    "leases.coordination.k8s.io": ("get", "create"),
}
REFUSED_ANYWHERE = {
    "nodes": ("get", "list"),
    "namespaces": ("get", "list", "watch", "create", "delete"),
    "customresourcedefinitions.apiextensions.k8s.io": ("get", "list", "watch", "create"),
    "clusterroles.rbac.authorization.k8s.io": ("create", "bind", "escalate"),
    "clusterrolebindings.rbac.authorization.k8s.io": ("create",),
    "users": ("impersonate",),
}


@pytest.fixture(scope="module")
def team(cluster: Cluster, crds: None) -> Iterator[Site]:
    """A namespace with studies, which the release watches."""
    yield from _sites(cluster)


@pytest.fixture(scope="module")
def doomed(cluster: Cluster, crds: None) -> Iterator[Site]:
    """A second one, which one of the tests deletes."""
    yield from _sites(cluster)


def _sites(cluster: Cluster) -> Iterator[Site]:
    site = Site(cluster, f"team-{uuid.uuid4().hex[:6]}", Path("/nonexistent"))
    site.set_up()
    yield site
    words = ("delete", "namespace", site.namespace, "--wait=false", "--ignore-not-found")
    cluster.kubectl(*words)


@pytest.fixture(scope="module")
def store(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """An S3 whose certificate no public authority has signed."""
    server = MinioServer(tmp_path_factory.mktemp("store"), is_secure=True, host=NODE_ADDRESS)
    server.start()
    server.make_bucket(BUCKET)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def release(cluster: Cluster, team: Site, doomed: Site, store: MinioServer) -> Iterator[Release]:
    """Installed for these two namespaces, with keys and certificates as docs/install.md says."""
    found = Release(cluster, f"hippo-{uuid.uuid4().hex[:6]}")
    found.set_up()
    trust = f"--from-file=ca.crt={store.certificate}"
    found.kubectl("create", "configmap", "store-ca", trust)
    for site in (team, doomed):
        site.kubectl("create", "configmap", names.STORE_CA, trust)
        site.url = f"s3://{BUCKET}/{found.name}"
        site.store = {**store.settings, "AWS_CA_BUNDLE": str(store.certificate)}
        site.read_log = found.read_log
    found.values = _build_values(found, store, team, doomed)
    found.install(found.values)
    yield found
    found.tear_down()


def _build_values(release: Release, store: MinioServer, *watched: Site) -> Document:
    return {
        "image": image_values(release.cluster.operator_image),
        "watchNamespaces": [site.namespace for site in watched],
        "store": {
            "url": f"s3://{BUCKET}/{release.name}",
            "endpoint": store.endpoint,
            "existingSecret": KEYS,
            "ca": {"configMap": "store-ca"},
        },
        "resync": 10,
        "metrics": {"perStudy": True},
        "stagePods": {"requests": {"cpu": "50m", "memory": "64Mi"}},  # one small node has them all
        # These are of the whole cluster, which this release does not have for itself.
        "crds": {"install": False},
        "rbac": {"aggregateRoles": False},
    }


@pytest.fixture(scope="module")
def prometheus(
    cluster: Cluster, release: Release, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """It scrapes the operator as a ServiceMonitor says; there is no Prometheus operator here."""
    on = {
        **release.values,
        "metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
    }
    rendered = release.helm("template", release.name, CHART, "--values=-", input=json.dumps(on))
    monitor, rules = (
        find(read_documents(rendered), kind, release.operator)
        for kind in ("ServiceMonitor", "PrometheusRule")
    )
    with start(cluster, tmp_path_factory.mktemp("prometheus"), monitor, rules) as found:
        yield found


@pytest.fixture(scope="module")
def trained(release: Release, prometheus: Prometheus, team: Site) -> Document:
    """The status of a study that has been trained, while Prometheus was looking on."""
    prometheus.wait_for("hippo_store_up")
    team.apply(team.study("good", {"lr": LRS}))
    return team.wait_for("good", "Succeeded", "Failed")


def test_a_study_is_trained_by_what_was_installed(trained: Document, team: Site) -> None:
    assert trained["phase"] == "Succeeded"
    team.check_results("good")
    assert team.count_trained(trained["plan"]) == UNIQUE_STEPS
    team.wait_for_reasons("good", "Running", "Succeeded")
    assert {event["reason"] for event in team.events("good")} == {"Running", "Succeeded"}
    plan = team.get("searchplan", trained["plan"])["status"]
    assert plan["stepsTrained"] == UNIQUE_STEPS


def test_the_release_passes_its_own_test(release: Release) -> None:
    told = release.helm("test", release.name, "--logs", "--timeout=60s")
    assert "ok: the API server serves the kinds" in told
    assert f"ok: s3://{BUCKET}/{release.name} can be written, read and deleted from" in told


def test_the_operators_pod_is_well_and_nobody_in_particular(
    release: Release, trained: Document
) -> None:
    (pod,) = release.find_pods()  # in a namespace that takes no pods but restricted ones
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert release.kubectl("exec", pod["metadata"]["name"], "--", "id", "-u").strip() == "65532"
    assert release.get_page("healthz") == "ok\n"


def test_logs_are_documents_and_tell_of_no_refusal(release: Release, trained: Document) -> None:
    lines = release.read_log().splitlines()
    told = [json.loads(line) for line in lines]
    assert any("opened for good" in document["message"] for document in told)
    assert all(document["timestamp"] and document["severity"] for document in told)
    assert not [line for line in lines if "forbidden" in line.lower()]
    assert not [d for d in told if d["severity"] not in ("info", "debug")]


def test_rights_are_those_that_are_needed_and_no_more(
    release: Release, team: Site, trained: Document
) -> None:
    others = (release.namespace, "default", "kube-system")
    expected = {
        **dict.fromkeys(_ask(USED, team.namespace), True),
        **dict.fromkeys(_ask(USED, *others, None), False),
        **dict.fromkeys(_ask(REFUSED, team.namespace, *others, None), False),
        **dict.fromkeys(_ask(REFUSED_ANYWHERE, None), False),
    }
    assert review(release.cluster, release.account, expected) == expected


def test_a_release_for_the_whole_cluster(
    release: Release, cluster: Cluster, tmp_path: Path
) -> None:
    """On an API server of its own: here the operator would take up the studies of all tests."""
    everywhere = {"watchNamespaces": [], "rbac": {"aggregateRoles": True}}
    log = tmp_path / "operator.log"
    with start_api_server(cluster, tmp_path) as apart:
        whole = Release(apart, f"{release.name}-all")
        whole.set_up()
        whole.install({**release.values, **everywhere}, NO_PODS)
        expected = {
            **dict.fromkeys(_ask(USED, None, "default"), True),
            **dict.fromkeys(_ask(REFUSED, None, "kube-system"), False),
            **dict.fromkeys(_ask(REFUSED_ANYWHERE, None), False),
        }
        assert review(apart, whole.account, expected) == expected

        sites = [Site(apart, f"team-{n}", log) for n in (1, 2)]
        for site in sites:
            site.set_up()
            site.url = f"s3://{BUCKET}/{whole.name}"
        with run_operator(sites[0], whole.kubectl("create", "token", whole.operator).strip()):
            sites[0].wait_until(lambda: "cannot be listed" in log.read_text(), "CRDs are missed")
            whole.upgrade({"crds": {"install": True}}, NO_PODS)
            apart.kubectl("wait", "--for=condition=Established", "crd", "--all")
            for site in sites:
                site.apply(site.study("waits", {"lr": LRS}))
            for site in sites:
                _check_that_pods_come_and_go(site)
        assert "forbidden" not in log.read_text().lower()

        whole.helm("uninstall", whole.name)
        instance = ("-l", f"app.kubernetes.io/instance={whole.name}", "-o", "name")
        assert apart.kubectl("get", "clusterroles,clusterrolebindings", *instance) == ""
        assert [site.status("waits")["phase"] for site in sites] == ["Suspended"] * 2
        following = Release(apart, f"{release.name}-new")
        following.set_up()
        values = {**release.values, **everywhere, "crds": {"install": True}}
        with pytest.raises(CommandFailed, match="invalid ownership metadata"):
            following.install(values, NO_PODS)
        following.helm("uninstall", following.name, "--ignore-not-found")
        following.install(values, NO_PODS, "--take-ownership")
        assert [site.status("waits")["phase"] for site in sites] == ["Suspended"] * 2


def _check_that_pods_come_and_go(site: Site) -> None:
    """There is no kubelet to run them."""
    site.wait_until(lambda: site.list("pods"), "there are pods")
    site.wait_until(lambda: site.status("waits").get("trials"), "there is a status")
    assert len(site.trials("waits")) == len(LRS)
    site.patch("study", "waits", {"suspend": True})
    site.wait_for("waits", "Suspended")
    site.wait_until(lambda: not site.list("pods"), "pods are deleted")


def test_metrics_arrive_and_no_alert_fires(
    release: Release, prometheus: Prometheus, team: Site, trained: Document
) -> None:
    promtool = (release.cluster.bin / "promtool", "check", "metrics")
    run(promtool, input=release.get_page("metrics"))
    prometheus.wait_for(f'hippo_studies{{namespace="{team.namespace}",phase="Succeeded"}} == 1')
    queries = set(list_queries())
    assert len(queries) > 30
    empty = {query for query in queries if not prometheus.query(query)}
    by_chance = {query for query in queries if _BY_CHANCE in query}
    of_trouble = {query for query in queries if any(word in query for word in _OF_TROUBLE)}
    assert empty - by_chance == of_trouble
    rules = prometheus.list_rules()
    assert {rule["name"]: (rule["state"], rule["health"]) for rule in rules} == dict.fromkeys(
        ALERTS, ("inactive", "ok")
    )


_BY_CHANCE = "hippo_chain_gap_seconds"
"""Whether a chain had to wait for another one's end."""
_OF_TROUBLE = (
    "hippo_chain_failures_total",
    "hippo_chain_disruptions_total",
    "hippo_store_errors_total",
    "hippo_studies_oldest_progress_timestamp_seconds",  # of studies that run
)


def test_no_study_is_taken_in_the_releases_own_namespace(release: Release) -> None:
    values = {**release.values, "watchNamespaces": [release.namespace]}
    with pytest.raises(CommandFailed, match="names the release's own namespace"):
        release.helm("template", release.name, CHART, "--values=-", input=json.dumps(values))
    (deployment,) = release.find_all("deployments")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert f"--own-namespace={release.namespace}" in container["args"]


def test_a_study_goes_on_while_its_operator_is_replaced(release: Release, team: Site) -> None:
    team.apply(team.study("steady", {"lr": LRS}, config={"sleep": 8.0}))
    team.wait_for("steady", "Running")
    before = {release.find_pod_name()}

    def check_that_another_one_works() -> None:
        release.wait_until_ready()
        before.add(release.find_pod_name())
        assert team.status("steady")["phase"] == "Running"

    release.keep_log()
    release.kubectl("rollout", "restart", f"deployment/{release.operator}")
    check_that_another_one_works()

    release.keep_log()
    name = release.find_pod_name()
    release.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
    team.wait_until(lambda: release.find_pod_name() != name, "there is another operator")
    check_that_another_one_works()

    release.keep_log()
    release.upgrade({"maxWorkers": 2})
    check_that_another_one_works()
    (deployment,) = release.find_all("deployments")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"--max-workers=2", f"--namespace={team.namespace}"} <= set(container["args"])

    assert len(before) == 4
    status = team.wait_for("steady", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded"
    team.check_results("steady")
    assert team.count_trained(status["plan"]) == UNIQUE_STEPS
    assert "forbidden" not in release.read_log().lower()


def test_minio_and_rights_that_come_later(cluster: Cluster, crds: None) -> None:
    for site in _sites(cluster):
        site.kubectl("delete", "secret", names.STORE_SECRET)  # the chart makes it
        found = Release(cluster, f"hippo-{uuid.uuid4().hex[:6]}")
        found.set_up()
        try:
            _check_minio(found, site)
        finally:
            found.tear_down()


def _check_minio(release: Release, site: Site) -> None:
    site.read_log = release.read_log
    values = {
        "image": image_values(release.cluster.operator_image),
        "watchNamespaces": [site.namespace],
        "store": {"namespaces": [site.namespace]},
        "minio": {
            "enabled": True,
            "image": image_values(release.cluster.images.minio),
            "persistence": {"enabled": False},
        },
        "crds": {"install": False},
        "rbac": {"create": False, "aggregateRoles": False},
    }
    release.install(values, NO_PODS)
    reason = "studies.hippo.dev is forbidden"
    site.wait_until(lambda: reason in release.read_log(), "the operator says what it lacks")
    assert not release.is_ready()
    keys = release.get_data(f"{release.name}-minio")
    release.upgrade({"rbac": {"create": True}})
    assert release.get_data(f"{release.name}-minio") == keys

    site.apply(site.study("first", {"lr": LRS}))
    assert site.wait_for("first", "Succeeded", "Failed")["phase"] == "Succeeded"
    site.check_results("first")
    told = release.helm("test", release.name, "--logs", "--timeout=60s")
    assert "ok: s3://hippo/studies can be written, read and deleted from" in told


def test_uninstalling_leaves_nothing_stuck_and_studies_go_on_later(
    release: Release, cluster: Cluster, team: Site, doomed: Site
) -> None:
    for site in (team, doomed):
        site.apply(site.study("interrupted", {"lr": LRS}, config={"sleep": 1.0}))
    for site in (team, doomed):
        site.wait_for("interrupted", "Running")
    release.uninstall()
    kinds = "all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,pvc"
    instance = ("-l", f"app.kubernetes.io/instance={release.name}", "-o", "name")
    everything = ("get", f"{kinds},clusterroles,clusterrolebindings", "-A", *instance)
    team.wait_until(lambda: cluster.kubectl(*everything) == "", "nothing is left", seconds=60.0)
    for site in (team, doomed):
        found = [site.list(kind) for kind in ("studies", "trials", "searchplans", "pods")]
        assert all(found)
        objects = [item for items in found for item in items]
        assert not [o["metadata"]["name"] for o in objects if "finalizers" in o["metadata"]]
        assert site.status("interrupted")["phase"] == "Running"
    cluster.kubectl("delete", "namespace", doomed.namespace, "--timeout=60s", timeout=70)

    release.install({**release.values, "watchNamespaces": [team.namespace]})
    status = team.wait_for("interrupted", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded"
    team.check_results("interrupted")
    assert team.count_trained(status["plan"]) == UNIQUE_STEPS


def _ask(
    rights: dict[str, tuple[str, ...]], *namespaces: str | None
) -> Iterator[tuple[str, str, str | None]]:
    for where in namespaces:
        for resource, verbs in rights.items():
            yield from ((verb, resource, where) for verb in verbs)
