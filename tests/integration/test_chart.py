"""The chart renders sound objects for each of its sets of values, and refuses bad ones."""

from __future__ import annotations

import base64
import functools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hippo.kube import names
from hippo.kube.pods.template_allowance import BUILT_IN, NOTHING_MORE
from hippo.kube.pods.template_validation import refuse_name
from hippo.kube.settings import read_allowance, read_default_requests
from tests.builds import BUILD_SECONDS
from tests.integration.charts import (
    CHART,
    ROOT,
    VALUE_SETS,
    Document,
    find,
    kinds,
    read_documents,
    render,
    run_helm,
    template,
)

# Whichever test comes first may have to wait until Helm is built.
pytestmark = pytest.mark.timeout(BUILD_SECONDS)

IMAGE = ("--set", "image.repository=example.org/hippo")
STORE = (*IMAGE, "--set", "store.url=s3://bucket", "--set", "store.existingSecret=keys")
RULES = {
    ("hippo.dev", "studies"): {"list", "watch"},
    **{
        ("hippo.dev", kind): {"get", "list", "watch", "create", "patch", "delete"}
        for kind in ("trials", "searchplans")
    },
    ("hippo.dev", "studies/status"): {"patch"},
    ("hippo.dev", "trials/status"): {"patch"},
    ("hippo.dev", "searchplans/status"): {"update"},
    ("", "pods"): {"get", "list", "watch", "create", "delete"},
    ("", "events"): {"create", "patch"},
}

every_value_set = pytest.mark.parametrize("value_set", VALUE_SETS)


@every_value_set
def test_helm_has_nothing_to_complain_of(value_set: str) -> None:
    values = CHART / "ci" / f"{value_set}-values.yaml"
    done = run_helm("lint", "--strict", CHART, "--values", values)
    assert done.returncode == 0, done.stdout + done.stderr


@every_value_set
def test_objects_are_named_once_and_say_what_they_belong_to(value_set: str) -> None:
    objects = render(value_set)
    ids = [
        (document["kind"], document["metadata"].get("namespace"), document["metadata"]["name"])
        for document in objects
    ]
    assert len(set(ids)) == len(ids)
    for document in objects:
        if not document["metadata"]["name"].endswith(f".{names.GROUP}"):
            assert document["metadata"]["labels"]["app.kubernetes.io/instance"] == "hippo"


@every_value_set
def test_pods_keep_the_restricted_standard(value_set: str) -> None:
    found = list(_pods(render(value_set)))
    assert len(found) >= 2  # the operator, and the test
    for spec in found:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all(set(volume) - {"name"} <= _VOLUMES for volume in spec["volumes"])
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


_VOLUMES = {"emptyDir", "configMap", "persistentVolumeClaim"}


@every_value_set
def test_there_is_one_operator_at_a_time(value_set: str) -> None:
    (deployment,) = (
        document
        for document in render(value_set)
        if document["kind"] == "Deployment" and document["metadata"]["name"].endswith("-operator")
    )
    assert deployment["spec"]["replicas"] == 1
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == 60
    (container,) = pod["containers"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}


@every_value_set
def test_keys_stand_in_secrets_only(value_set: str) -> None:
    objects = render(value_set)
    secrets = {
        base64.b64decode(value).decode()
        for document in objects
        if document["kind"] == "Secret"
        for name, value in document["data"].items()
        if name == "AWS_SECRET_ACCESS_KEY"
    }
    others = json.dumps([document for document in objects if document["kind"] != "Secret"])
    assert not any(secret in others for secret in secrets)


@every_value_set
def test_the_operator_has_exactly_the_rights_that_it_uses(value_set: str) -> None:
    values = YAML(typ="safe").load(CHART / "ci" / f"{value_set}-values.yaml")
    namespaces = values.get("watchNamespaces", [])
    objects = render(value_set, "--set-json", "rbac.extraRules=[]")
    roles = [
        document
        for document in objects
        if document["kind"] in ("Role", "ClusterRole")
        and document["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    ]
    identity = [role for role in roles if role["metadata"]["name"].endswith("-cluster")]
    is_named = "clusterUid" in values.get("store", {})
    if namespaces:
        assert {role["kind"] for role in roles} == {"Role"}
        assert [r["metadata"]["namespace"] for r in roles if r not in identity] == namespaces
        assert [role["metadata"]["namespace"] for role in identity] == (
            [] if is_named else ["kube-system"]
        )
    else:
        assert [role["kind"] for role in roles] == ["ClusterRole"]
        identity = [] if is_named else roles
    for role in identity:
        assert role["rules"].pop() == {
            "apiGroups": [""],
            "resources": ["namespaces"],
            "resourceNames": ["kube-system"],
            "verbs": ["get"],
        }
    assert all(_rights(role) == RULES for role in roles if role["rules"])
    bindings = [document for document in objects if document["kind"].endswith("RoleBinding")]
    assert len(bindings) == len(roles)
    (account,) = (document for document in objects if document["kind"] == "ServiceAccount")
    for binding in bindings:
        assert binding["subjects"] == [
            {
                "kind": "ServiceAccount",
                "name": account["metadata"]["name"],
                "namespace": "hippo-system",
            }
        ]


def test_people_get_rights_by_the_roles_that_they_have() -> None:
    objects = render("s3")
    view, edit = (find(objects, "ClusterRole", name) for name in ("hippo-view", "hippo-edit"))
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    assert {label for label in view["metadata"]["labels"] if label.startswith(prefix)} == {
        f"{prefix}{role}" for role in ("view", "edit", "admin")
    }
    assert {label for label in edit["metadata"]["labels"] if label.startswith(prefix)} == {
        f"{prefix}{role}" for role in ("edit", "admin")
    }
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    written = [rule["resources"] for rule in edit["rules"] if "create" in rule["verbs"]]
    assert written == [["studies", "trials"]]  # nobody but the operator writes search plans
    assert "ClusterRole" not in kinds(render("namespaced"))


def test_the_command_line_follows_the_values() -> None:
    assert _operator("s3")["args"] == [
        "--store=s3://my-bucket/studies",
        "--identity=hippo-system.hippo",
        "--metrics-port=8080",
        "--log-format=json",
        "--default-parallelism=4",
        "--image-pull-policy=IfNotPresent",
        "--default-request=cpu=threads",
        "--default-request=memory=1Gi",
        "--own-namespace=hippo-system",
    ]
    assert _operator("everything", "hippo-everything-operator")["args"] == [
        "--namespace=team-a",
        "--store=s3://my-bucket/some/prefix",
        "--identity=everything",
        "--metrics-port=9100",
        "--log-format=text",
        "--default-parallelism=8",
        "--max-workers=32",
        "--resync=60",
        "--image-pull-policy=Always",
        "--default-request=cpu=2",
        "--default-request=nvidia.com/gpu=1",
        "--cluster-uid=5f1c3a52-8a0b-4b36-9f4e-2f6f9d1c7b10",
        "--allow=annotations=example.org/*",
        "--allow=csiDrivers=secrets-store.csi.k8s.io",
        "--allow=fields=spec.resources",
        "--allow=labels=example.org/team",
        "--allow=nodeSelectors=node-role.kubernetes.io/gpu",
        "--allow=priorityClasses=batch",
        "--allow=priorityClasses=batch-low",
        "--allow=runtimeClasses=nvidia",
        "--allow=schedulers=volcano",
        "--allow=tolerations=spot",
        "--own-namespace=hippo-system",
        "--per-study-metrics",
        f"--store-ca-configmap={names.STORE_CA}",
        "--cache-claim=hippo-cache",
        "--cache-bytes=50000000000",
        "--log-format=json",
    ]
    assert _operator("everything", "hippo-everything-operator")["image"].count("@sha256:") == 1


def test_the_operator_finds_its_store() -> None:
    environment = _environment(_operator("s3"))
    assert environment["AWS_ENDPOINT_URL"] == "https://s3.example.org:9000"
    assert environment["AWS_SECRET_ACCESS_KEY"] == ("hippo-keys", "AWS_SECRET_ACCESS_KEY")
    everything = _operator("everything", "hippo-everything-operator")
    environment = _environment(everything)
    assert environment["AWS_REGION"] == "us-east-1"
    assert environment["HIPPO_S3_PATIENCE"] == "12.5"
    assert environment["TZ"] == "UTC"
    mounts = {mount["name"]: mount["mountPath"] for mount in everything["volumeMounts"]}
    assert environment["AWS_CA_BUNDLE"] == f"{mounts['store-ca']}/ca.crt"
    assert set(_environment(_operator("namespaced"))) == {"AWS_REGION"}  # keys of its role


def test_stage_pods_of_listed_namespaces_find_keys_and_certificates() -> None:
    objects = render("everything")
    for namespace in ("team-a", "team-b"):
        secret = find(objects, "Secret", names.STORE_SECRET, namespace)
        assert base64.b64decode(secret["data"]["AWS_ACCESS_KEY_ID"]) == b"an-access-key"
        assert base64.b64decode(secret["data"]["AWS_SECRET_ACCESS_KEY"]) == b"a-secret-key"
        certificates = find(objects, "ConfigMap", names.STORE_CA, namespace)["data"]["ca.crt"]
        assert certificates.startswith("-----BEGIN CERTIFICATE-----\nnot a real one\n")


def test_keys_from_files_have_no_line_break(tmp_path: Path) -> None:
    arguments: list[str] = []
    for name in ("accessKey", "secretKey"):
        (tmp_path / name).write_text(f"some-{name}\n")
        arguments += ["--set-file", f"store.{name}={tmp_path / name}"]
    done = template(*IMAGE, "--set", "store.url=s3://bucket", *arguments)
    assert done.returncode == 0, done.stderr
    (secret,) = [d for d in read_documents(done.stdout) if d["kind"] == "Secret"]
    keys = {name: base64.b64decode(value) for name, value in secret["data"].items()}
    assert keys == {
        "AWS_ACCESS_KEY_ID": b"some-accessKey",
        "AWS_SECRET_ACCESS_KEY": b"some-secretKey",
    }


def test_minio_brings_bucket_address_and_keys() -> None:
    objects = render("minio")
    (minio,) = _deployment(objects, "hippo-minio")["spec"]["template"]["spec"]["containers"]
    (bucket,) = _deployment(objects, "hippo-minio")["spec"]["template"]["spec"]["initContainers"]
    operator = _operator("minio")
    assert operator["args"][0] == "--store=s3://hippo/studies"
    assert bucket["args"] == ["/data/hippo"]
    environment = _environment(operator)
    assert environment["AWS_ENDPOINT_URL"] == "http://hippo-minio.hippo-system.svc:9000"
    served = _environment(minio)
    assert environment["AWS_ACCESS_KEY_ID"] == served["MINIO_ROOT_USER"]
    assert environment["AWS_SECRET_ACCESS_KEY"] == served["MINIO_ROOT_PASSWORD"]
    own = find(objects, "Secret", "hippo-minio")["data"]
    assert own == find(objects, "Secret", names.STORE_SECRET, "default")["data"]
    assert len(base64.b64decode(own["AWS_SECRET_ACCESS_KEY"])) == 40


def test_uninstalling_keeps_studies_and_minios_volume() -> None:
    claim = find(render("minio-policies"), "PersistentVolumeClaim", "hippo-minio")
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for document in render("s3"):
        if document["kind"] == "CustomResourceDefinition":
            assert document["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


@every_value_set
def test_nothing_can_hang_when_the_chart_is_removed(value_set: str) -> None:
    for document in render(value_set):
        assert "finalizers" not in document["metadata"]
        hook = document["metadata"].get("annotations", {}).get("helm.sh/hook")
        assert hook is None or (hook, document["kind"]) == ("test", "Pod")


def test_crds_are_those_of_the_project() -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds").glob("*.yaml")}
    assert generated, "crds/ is empty"
    copies = {path.name: path.read_text() for path in (CHART / "files" / "crds").glob("*.yaml")}
    assert copies == generated, "run: cp crds/*.yaml charts/hippo/files/crds/"
    rendered = {
        document["metadata"]["name"]: document
        for document in render("s3")
        if document["kind"] == "CustomResourceDefinition"
    }
    for text in generated.values():
        for document in read_documents(text):
            mine = rendered.pop(document["metadata"]["name"])
            expected = json.dumps(document["spec"]).replace(
                ", unless its admin has set another", ""
            )
            assert mine["spec"] == json.loads(expected)
    assert not rendered
    told = json.dumps(render("everything"))
    assert "Most pods at once for this study. If absent, the operator's default: 8. Quotas" in told
    assert "CustomResourceDefinition" not in kinds(render("namespaced"))


def test_the_admission_policy_is_that_of_the_project() -> None:
    generated = {path.name: path.read_text() for path in (ROOT / "crds" / "policies").glob("*")}
    copies = {path.name: path.read_text() for path in (CHART / "files" / "policies").glob("*")}
    assert copies == generated, "run: cp crds/policies/* charts/hippo/files/policies/"
    expected = [document for text in generated.values() for document in read_documents(text)]
    assert expected
    policies = [d for d in render("everything") if d["kind"].startswith("ValidatingAdmission")]
    assert {d["kind"]: d["spec"] for d in policies} == {d["kind"]: d["spec"] for d in expected}
    assert not any(kind.startswith("ValidatingAdmission") for kind in kinds(render("s3")))


def test_metrics_objects_are_for_who_asks() -> None:
    optional = {"ServiceMonitor", "PrometheusRule", "NetworkPolicy"}
    assert not optional & set(kinds(render("s3")))
    objects = render("everything")
    assert optional <= set(kinds(objects))
    rule = find(objects, "PrometheusRule", "hippo-everything-operator")
    expressions = [alert["expr"] for group in rule["spec"]["groups"] for alert in group["rules"]]
    assert any("> 7200" in expression for expression in expressions)
    assert not any("> 3600" in expression for expression in expressions)
    board = find(objects, "ConfigMap", "hippo-everything-dashboard", "monitoring")
    assert json.loads(board["data"]["hippo.json"])["title"] == "Hippo"
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_network_policies_let_through_what_is_needed() -> None:
    objects = render("everything")
    operator = find(objects, "NetworkPolicy", "hippo-everything-operator")["spec"]
    assert [rule["ports"] for rule in operator["ingress"]] == [[{"port": 9100}]]
    assert _ports(operator) == {53, 9000, 6443}
    stage_pods = find(objects, "NetworkPolicy", "hippo-everything-stage-pods", "team-a")["spec"]
    assert "ingress" not in stage_pods
    assert "Ingress" in stage_pods["policyTypes"]
    assert _ports(stage_pods) == {53, 9000}
    assert stage_pods["podSelector"]["matchExpressions"] == [
        {"key": names.LABEL_PLAN, "operator": "Exists"}
    ]
    minio = find(render("minio-policies"), "NetworkPolicy", "hippo-minio")["spec"]
    assert [rule["ports"] for rule in minio["ingress"]] == [[{"port": 9000}]]


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("", 443),
        ("https://s3.example.org", 443),
        ("http://s3.example.org/", 80),
        ("http://s3.example.org:9000", 9000),
    ],
)
def test_policies_open_the_port_of_the_store(endpoint: str, port: int) -> None:
    done = template(
        *STORE,
        *("--set", "networkPolicy.enabled=true", "--set", f"store.endpoint={endpoint}"),
        *("--show-only", "templates/networkpolicy.yaml"),
    )
    assert done.returncode == 0, done.stderr
    (policy,) = read_documents(done.stdout)
    assert _ports(policy["spec"]) == {53, port, 443, 6443}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--set", "store.url=s3://bucket"), "image.repository is missing"),
        (IMAGE, "store.url is missing: give s3://bucket/prefix, or set minio.enabled"),
        ((*IMAGE, "--set", "store.url=s3://bucket"), "the store's keys are missing"),
        ((*STORE, "--set", "minio.enabled=true"), "brings its own endpoint and keys"),
        ((*STORE, "--set", "store.accessKey=a"), "set both, or neither"),
        (
            (*STORE, "--set", "store.accessKey=a", "--set", "store.secretKey=b"),
            "two ways to give the same keys",
        ),
        ((*STORE, "--set", "store.namespaces={a}"), "make the Secrets hippo-store yourself"),
        (
            (*STORE, "--set", "store.ca.pem=x", "--set", "store.ca.configMap=y"),
            "two ways to give the same certificates",
        ),
        (
            (*IMAGE, "--set", "minio.enabled=true", "--set", "store.url=s3://other/x"),
            "another bucket than minio.bucket",
        ),
        ((*STORE, "--set", "serviceAccount.create=false"), "serviceAccount.name is missing"),
        (
            (*STORE, "--set", "watchNamespaces={a,hippo-system}"),
            "watchNamespaces names the release's own namespace",
        ),
        (
            (*IMAGE, "--set", "minio.enabled=true", "--set", "store.namespaces={hippo-system}"),
            "store.namespaces names the release's own namespace",
        ),
        # What the schema says.
        ((*STORE, "--set", "stagePods.allow.users={me}"), "'users' not allowed"),
        ((*STORE, "--set", "stagePods.allow.labels={a*b}"), "/stagePods/allow/labels/0"),
        ((*STORE, "--set", "stagePods.allow.fields={hostPID}"), "/stagePods/allow/fields/0"),
        ((*STORE, "--set", "replicas=2"), "additional properties 'replicas' not allowed"),
        ((*STORE, "--set", "store.bucket=b"), "additional properties 'bucket' not allowed"),
        ((*STORE, "--set", "store.url=https://b/x"), "/store/url"),
        ((*STORE, "--set", "store.endpoint=minio:9000"), "/store/endpoint"),
        ((*STORE, "--set", "watchNamespaces={Team_A}"), "/watchNamespaces/0"),
        ((*STORE, "--set", "defaultParallelism=0"), "/defaultParallelism"),
        ((*STORE, "--set", "stagePods.requests.memory=lots"), "/stagePods/requests/memory"),
        ((*STORE, "--set", "logFormat=xml"), "/logFormat"),
        ((*STORE, "--set", "metrics.port=80"), "/metrics/port"),
        ((*STORE, "--set", "store.patience=0"), "/store/patience"),
        ((*STORE, "--set", "podLabels.a=1"), "/podLabels/a"),
        ((*STORE, "--set-string", "maxWorkers=5"), "/maxWorkers"),
        ((*STORE, "--set", "defaultParallelism=2.5"), "/defaultParallelism"),
        ((*STORE, "--set", "defaultParallelism=null"), "missing property 'defaultParallelism'"),
        ((*STORE, "--set", "metrics.port=null"), "missing property 'port'"),
        ((*STORE, "--set", "networkPolicy=null"), "missing property 'networkPolicy'"),
        ((*IMAGE, "--set", "store.url=null"), "store.url is missing"),
    ],
)
def test_bad_values_are_refused_with_the_reason(arguments: tuple[str, ...], complaint: str) -> None:
    done = template(*arguments)
    assert done.returncode != 0
    assert complaint in done.stderr


def test_every_value_is_known_to_the_schema() -> None:
    values = YAML(typ="safe").load(CHART / "values.yaml")
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert _paths(values, schema) == set()
    assert set(schema["properties"]) - set(values) == {"enabled", "global"}


def test_a_parent_chart_switches_it_by_a_condition(tmp_path: Path) -> None:
    version = YAML(typ="safe").load(CHART / "Chart.yaml")["version"]
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "hippo")
    (parent / "Chart.yaml").write_text(
        "apiVersion: v2\nname: parent\nversion: 0.1.0\ndependencies:\n"
        f"- {{name: hippo, version: {version}, condition: hippo.enabled}}\n"
    )
    hippo = {"image": {"repository": "r.example.org/o"}, "maxWorkers": 2000}
    store = {"url": "s3://my-bucket", "existingSecret": "keys"}
    for is_enabled in (True, False):
        values = {"global": {"a": 1}, "hippo": {**hippo, "store": store, "enabled": is_enabled}}
        (parent / "values.yaml").write_text(json.dumps(values))
        done = run_helm("template", "app", parent)
        assert done.returncode == 0, done.stderr
        objects = read_documents(done.stdout)
        assert ("Deployment" in kinds(objects)) is is_enabled
        assert ("--max-workers=2000" in done.stdout) is is_enabled


def test_enabled_does_nothing_by_itself() -> None:
    done = template(*STORE, "--set", "enabled=false")
    assert done.returncode != 0
    assert "give the parent chart's dependency the condition hippo.enabled" in done.stderr
    assert template(*STORE, "--set", "enabled=true").stdout == template(*STORE).stdout


def test_large_numbers_stay_whole(tmp_path: Path) -> None:
    """Helm reads numbers of a file as floats, and writes those from a million on as 1e+06."""
    values = {
        "maxWorkers": 2000,
        "defaultParallelism": 12345678,
        "terminationGracePeriodSeconds": 2000000,
        "resync": 3000000,
        "stagePods": {"cache": {"claim": "c", "bytes": 1 << 50}},
        "metrics": {"prometheusRule": {"enabled": True, "stalledAfterSeconds": 4000000}},
        "podSecurityContext": {"runAsUser": 1000660000},
        "resources": {"limits": {"memory": 8589934592}},
    }
    path = tmp_path / "values.yaml"
    path.write_text(json.dumps(values))
    done = template(*STORE, "--values", path)
    assert done.returncode == 0, done.stderr
    objects = read_documents(done.stdout)
    pod = _deployment(objects, "hippo-operator")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = dict(a.removeprefix("--").split("=", 1) for a in container["args"])
    assert told["max-workers"] == "2000"
    assert told["default-parallelism"] == "12345678"
    assert told["cache-bytes"] == str(1 << 50)
    assert float(told["resync"]) == 3e6
    assert pod["terminationGracePeriodSeconds"] == 2000000
    assert pod["securityContext"]["runAsUser"] == 1000660000
    assert container["resources"]["limits"]["memory"] == 8589934592
    assert "> 4000000" in done.stdout
    assert not re.search(
        r"[ =]\d[.\d]*e\+",
        done.stdout.replace("resync=3e+06", ""),
    )


def test_null_stands_for_what_may_be_left_out() -> None:
    names = ("maxWorkers", "resync", "store.endpoint", "store.region", "resources", "affinity")
    done = template(*STORE, *(part for name in names for part in ("--set", f"{name}=null")))
    assert done.returncode == 0, done.stderr
    (container,) = _deployment(read_documents(done.stdout), "hippo-operator")["spec"]["template"][
        "spec"
    ]["containers"]
    assert "AWS_ENDPOINT_URL" not in _environment(container)
    assert not any(argument.endswith("=") for argument in container["args"])


@pytest.mark.parametrize(
    ("value_set", "expected"),
    [
        ("s3", {"cpu": "threads", "memory": "1Gi"}),
        ("everything", {"cpu": "2", "nvidia.com/gpu": "1"}),
    ],
)
def test_the_operator_is_told_what_stage_pods_request(
    value_set: str, expected: dict[str, str]
) -> None:
    (operator,) = (
        document
        for document in render(value_set)
        if document["kind"] == "Deployment"
        if document["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    )
    arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"]
    told = [a.removeprefix("--default-request=") for a in arguments if "--default-request" in a]
    assert read_default_requests(told) == expected


def test_the_operator_understands_what_it_is_to_allow() -> None:
    arguments = _operator("everything", "hippo-everything-operator")["args"]
    told = [a.removeprefix("--allow=") for a in arguments if a.startswith("--allow=")]
    allowance = read_allowance(told)
    assert set(allowance.more) == set(BUILT_IN)
    assert allowance.has("priorityClasses", "batch-low")
    schema = json.loads((CHART / "values.schema.json").read_text())
    known = schema["properties"]["stagePods"]["properties"]["allow"]["properties"]
    assert set(known) == {*BUILT_IN, "ownNamespace"}
    assert read_allowance([]) == NOTHING_MORE


@every_value_set
def test_no_study_can_label_its_pods_as_those_of_a_release(value_set: str) -> None:
    def keys(value: Any) -> Iterator[str]:
        if isinstance(value, list):
            for item in value:
                yield from keys(item)
        elif isinstance(value, dict):
            yield from value.get("matchLabels") or ()
            yield from (one["key"] for one in value.get("matchExpressions") or ())
            for item in value.values():
                yield from keys(item)

    selected: set[str] = set()
    for document in render(value_set):
        if document["kind"] == "Service":
            selected |= set(document["spec"]["selector"])
        elif document["kind"] == "Deployment":
            selected |= set(document["spec"]["selector"]["matchLabels"])
        elif document["kind"] == "NetworkPolicy":
            spec = document["spec"]
            peers = [rule.get("from") for rule in spec.get("ingress", ())]
            peers += [rule.get("to") for rule in spec.get("egress", ())]
            named = [peer.get("podSelector") for found in peers for peer in found or ()]
            selected |= set(keys([spec["podSelector"], *named]))
    assert len(selected) >= 3
    assert all(refuse_name("labels", key) for key in selected)


def test_nobody_reads_the_metrics_behind_a_policy_but_who_is_named() -> None:
    policy = find(render("minio-policies"), "NetworkPolicy", "hippo-operator")["spec"]
    assert "ingress" not in policy
    assert "Ingress" in policy["policyTypes"]
    named = find(render("everything"), "NetworkPolicy", "hippo-everything-operator")["spec"]
    (rule,) = named["ingress"]
    assert rule["from"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    ]


def test_studies_may_be_in_the_releases_namespace_if_somebody_says_so() -> None:
    own = ("--set", "stagePods.allow.ownNamespace=true", "--set", "watchNamespaces={hippo-system}")
    done = template(*STORE, *own)
    assert done.returncode == 0, done.stderr
    assert "--namespace=hippo-system" in done.stdout
    assert "--own-namespace" not in done.stdout


def test_values_of_an_earlier_chart_allow_nothing_more() -> None:
    """As --reuse-values hands them on."""
    done = template(*STORE, "--set", "stagePods.allow=null", "--set", "metrics.perStudy=null")
    assert done.returncode == 0, done.stderr
    assert "--allow" not in done.stdout
    assert "--own-namespace=hippo-system" in done.stdout
    assert "--per-study-metrics" not in done.stdout


def test_notes_say_what_is_missing() -> None:
    notes = _notes("s3")
    assert "kubectl create secret generic hippo-store --namespace NAMESPACE" in notes
    assert "port-forward" not in notes
    notes = _notes("minio")
    assert "port-forward --namespace hippo-system service/hippo-minio 9000:9000" in notes
    assert "results are lost" in notes
    notes = _notes("namespaced")
    assert "It is missing in: team-a, team-b." in notes
    assert "were not installed" in notes
    assert "hippo-store-ca" in _notes("everything")
    assert "networkPolicy.metricsFrom names no peer" in _notes("minio-policies")
    assert "metricsFrom" not in _notes("everything") + _notes("s3")


@functools.cache
def _notes(value_set: str) -> str:
    done = run_helm(
        *("install", "hippo", CHART, "--namespace", "hippo-system", "--dry-run=client"),
        *("--values", CHART / "ci" / f"{value_set}-values.yaml"),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def _paths(value: Any, schema: Document, path: str = "") -> set[str]:
    """Of values whose name or type the schema does not know."""
    if not isinstance(value, dict) or "properties" not in schema:
        return set() if schema else {path}
    unknown = {f"{path}.{name}" for name in set(value) - set(schema["properties"])}
    for name in set(value) & set(schema["properties"]):
        unknown |= _paths(value[name], schema["properties"][name], f"{path}.{name}")
    if schema.get("additionalProperties") is not False:
        unknown.add(path)
    return unknown


def _pods(objects: list[Document]) -> Iterator[Document]:
    for document in objects:
        if document["kind"] == "Deployment":
            yield document["spec"]["template"]["spec"]
        elif document["kind"] == "Pod":
            yield document["spec"]
        else:
            assert document["kind"] not in ("Job", "CronJob", "StatefulSet", "DaemonSet")


def _deployment(objects: list[Document], name: str) -> Document:
    return find(objects, "Deployment", name)


def _operator(value_set: str, name: str = "hippo-operator") -> Document:
    (container,) = _deployment(render(value_set), name)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def _environment(container: Document) -> dict[str, Any]:
    """Values; of a Secret, its name and the key."""
    environment = {}
    for variable in container["env"]:
        source = variable.get("valueFrom", {}).get("secretKeyRef")
        environment[variable["name"]] = (
            (source["name"], source["key"]) if source else variable["value"]
        )
    return environment


def _rights(role: Document) -> dict[tuple[str, str], set[str]]:
    rights: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        assert "resourceNames" not in rule
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                rights.setdefault((group, resource), set()).update(rule["verbs"])
    return rights


def _ports(policy: Document) -> set[int]:
    """That may be called."""
    return {port["port"] for rule in policy["egress"] for port in rule["ports"]}
