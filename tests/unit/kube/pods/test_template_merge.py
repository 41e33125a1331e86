"""What a podTemplate changes in the operator's pod, and what it must not."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.kube import names
from hippo.kube.pods.template_allowance import BUILT_IN
from hippo.kube.pods.template_merge import PATH, check_template, merge_pod
from hippo.kube.settings import MAX_ALLOWED, read_allowance
from hippo.model import InvalidSpec

GPU = "nvidia.com/gpu"

SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

ASSIGNMENT = f"metadata.annotations['{names.ANNOTATION_ASSIGNMENT}']"

BASE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "digits-0a1b-3",
        "namespace": "research",
        "labels": {names.LABEL_PLAN: "digits-0a1b", "team": "vision"},
        "annotations": {names.ANNOTATION_ASSIGNMENT: "{}"},
        "ownerReferences": [{"kind": "SearchPlan", "name": "digits-0a1b"}],
    },
    "spec": {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "trainer",
                "image": "registry.example/digits:1",
                "command": ["python", "-m", "stage_runner", "run"],
                "env": [
                    {"name": "HIPPO_STORE", "value": "s3://bucket"},
                    {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": "a"}}},
                ],
                "resources": {"limits": {"cpu": "1", "memory": "2Gi"}},
                "securityContext": SECURITY,
                "volumeMounts": [
                    {"name": "work", "mountPath": "/hippo/assignment", "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},
                ],
            }
        ],
        "volumes": [
            {
                "name": "work",
                "downwardAPI": {
                    "items": [
                        {
                            "path": "assignment.json",
                            "fieldRef": {"fieldPath": ASSIGNMENT},
                        }
                    ]
                },
            },
            {"name": "tmp", "emptyDir": {}},
        ],
        "tolerations": [{"key": "spot", "operator": "Exists"}],
    },
}


def merged(spec: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(BASE)
    found = merge_pod(BASE, {"spec": spec})
    assert before == BASE
    spec_found: dict[str, Any] = found["spec"]
    return spec_found


def trainer(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = [c for c in spec["containers"] if c["name"] == "trainer"]
    assert isinstance(found, dict)
    return found


class TestMerging:
    @pytest.mark.parametrize("template", [{}, {"spec": {}}, {"metadata": {}}, {"metadata": None}])
    def test_an_empty_template_changes_nothing(self, template: dict[str, Any]) -> None:
        assert merge_pod(BASE, template) == BASE

    def test_a_bare_spec_is_a_spec(self) -> None:
        spec = {"nodeSelector": {"pool": "gpu"}, "hostname": "low"}
        assert merge_pod(BASE, spec) == merge_pod(BASE, {"spec": spec})
        assert merge_pod(BASE, spec)["spec"]["nodeSelector"] == {"pool": "gpu"}

    def test_labels_are_added_to_ours(self) -> None:
        template = {
            "metadata": {
                "labels": {"kueue.x-k8s.io/queue-name": "q", "team": None},
                "annotations": {"a": "b"},
            }
        }
        metadata = merge_pod(BASE, template)["metadata"]
        assert metadata["labels"] == {
            names.LABEL_PLAN: "digits-0a1b",
            "kueue.x-k8s.io/queue-name": "q",
        }
        assert metadata["annotations"] == {names.ANNOTATION_ASSIGNMENT: "{}", "a": "b"}
        assert metadata["ownerReferences"] == BASE["metadata"]["ownerReferences"]

    @pytest.mark.parametrize("name", [{}, {"name": "trainer"}])
    def test_the_trainers_container(self, name: dict[str, Any]) -> None:
        spec = merged(
            {
                "containers": [
                    {
                        **name,
                        "env": [{"name": "DATA", "value": "/data"}],
                        "resources": {"limits": {"memory": "4Gi"}},
                        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    }
                ],
                "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "digits"}}],
            }
        )
        found = trainer(spec)
        assert [v["name"] for v in found["env"]] == ["HIPPO_STORE", "AWS_SECRET_ACCESS_KEY", "DATA"]
        assert found["resources"] == {"limits": {"cpu": "1", "memory": "4Gi"}}
        assert [m["mountPath"] for m in found["volumeMounts"]] == [
            "/hippo/assignment",
            "/tmp",
            "/data",
        ]
        assert found["command"] == ["python", "-m", "stage_runner", "run"]
        assert [v["name"] for v in spec["volumes"]] == ["work", "tmp", "data"]

    def test_null_deletes(self) -> None:
        spec = merged(
            {"containers": [{"resources": {"limits": {"cpu": None}}}], "tolerations": None}
        )
        assert trainer(spec)["resources"] == {"limits": {"memory": "2Gi"}}
        assert "tolerations" not in spec

    def test_null_is_not_handed_on(self) -> None:
        spec = merged({"dnsConfig": {"nameservers": None, "searches": ["a"]}})
        assert spec["dnsConfig"] == {"searches": ["a"]}

    def test_lists_without_a_key_are_replaced(self) -> None:
        spec = merged(
            {
                "tolerations": [{"key": GPU, "operator": "Exists"}],
                "containers": [{"args": ["x"]}],
            }
        )
        assert spec["tolerations"] == [{"key": GPU, "operator": "Exists"}]
        assert trainer(spec)["args"] == ["x"]

    def test_a_variable_has_one_source(self) -> None:
        env = [
            {"name": "HIPPO_STORE", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
            {"name": "AWS_SECRET_ACCESS_KEY", "value": "x"},
        ]
        found = trainer(merged({"containers": [{"env": env}]}))
        assert found["env"] == env

    def test_a_volume_has_one_source(self) -> None:
        volumes = [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": {}}}]
        assert merged({"volumes": volumes})["volumes"][1] == volumes[0]
        grown = merged({"volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}]})
        assert grown["volumes"][1] == {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}

    def test_ports_are_told_apart_by_protocol(self) -> None:
        ports = [
            {"containerPort": 53},
            {"containerPort": 53, "protocol": "UDP"},
            {"containerPort": 53, "protocol": "TCP", "name": "dns"},
        ]
        found = trainer(merged({"containers": [{"ports": ports}]}))["ports"]
        assert [port.get("name") for port in found] == ["dns", None]

    def test_a_sidecar_is_as_secure_as_the_trainer(self) -> None:
        spec = merged(
            {
                "initContainers": [
                    {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"},
                    {"name": "fetch", "securityContext": {"readOnlyRootFilesystem": True}},
                ]
            }
        )
        proxy, fetch = spec["initContainers"]
        assert proxy["securityContext"] == SECURITY
        assert fetch["securityContext"] == {**SECURITY, "readOnlyRootFilesystem": True}

    def test_other_containers_follow_the_trainers(self) -> None:
        spec = merged({"containers": [{"name": "watch", "image": "w"}, {"image": "mine:2"}]})
        assert [c["name"] for c in spec["containers"]] == ["trainer", "watch"]
        assert trainer(spec)["image"] == "mine:2"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"serviceAccountName": "admin"}, "serviceAccountName", "service account"),
    ({"serviceAccount": "admin"}, "serviceAccount", "service account"),
    ({"automountServiceAccountToken": True}, "automountServiceAccountToken", "service account"),
    ({"automountServiceAccountToken": None}, "automountServiceAccountToken", "service account"),
    ({"hostNetwork": True}, "hostNetwork", "node's namespaces"),
    ({"hostPID": True}, "hostPID", "node's namespaces"),
    ({"hostIPC": True}, "hostIPC", "node's namespaces"),
    ({"hostUsers": True}, "hostUsers", "node's namespaces"),
    ({"nodeName": "node-1"}, "nodeName", "nodeSelector"),
    ({"restartPolicy": "OnFailure"}, "restartPolicy", "must be Never"),
    ({"restartPolicy": None}, "restartPolicy", "must be Never"),
    ({"ephemeralContainers": [{"name": "d"}]}, "ephemeralContainers", "remove it"),
    ({"securityContext": None}, "securityContext", "cannot be removed"),
    ({"securityContext": {"runAsUser": 0}}, "securityContext.runAsUser", "other than root"),
    ({"securityContext": {"runAsNonRoot": False}}, "securityContext.runAsNonRoot", "restricted"),
    ({"securityContext": {"runAsNonRoot": None}}, "securityContext.runAsNonRoot", "restricted"),
    (
        {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
        "securityContext.seccompProfile.type",
        "restricted",
    ),
    (
        {"securityContext": {"seccompProfile": {"type": None}}},
        "securityContext.seccompProfile.type",
        "restricted",
    ),
    ({"securityContext": {"seccompProfile": None}}, "securityContext.seccompProfile", "removed"),
    (
        {"securityContext": {"windowsOptions": {"hostProcess": True}}},
        "securityContext.windowsOptions",
        "Linux",
    ),
    ({"volumes": None}, "volumes", "cannot be removed"),
    ({"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}, "volumes[0].hostPath", "no files"),
    ({"volumes": [{"emptyDir": {}}]}, "volumes[0].name", "missing"),
    ({"volumes": ["data"]}, "volumes[0]", "mapping"),
    ({"volumes": [{"name": "hippo-work", "emptyDir": {}}]}, "volumes[0].name", "operator's"),
    (
        {
            "volumes": [
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}
            ]
        },
        "volumes[0].projected.sources[0].serviceAccountToken",
        "service account",
    ),
    ({"containers": None}, "containers", "cannot be removed"),
    ({"containers": {}}, "containers", "must be a list"),
    ({"containers": [{"$patch": "replace"}]}, "containers[0].$patch", "null"),
    ({"containers": [{}, {"name": "trainer"}]}, "containers[1]", "second container trainer"),
    ({"containers": [{"restartPolicy": "Always"}]}, "containers[0].restartPolicy", "sidecar"),
    ({"containers": [{"env": None}]}, "containers[0].env", "cannot be removed"),
    ({"containers": [{"env": [{"name": "A", "value": 1}]}]}, "containers[0].env[0].value", '"1"'),
    (
        {"containers": [{"ports": [{"containerPort": 80, "hostPort": 80}]}]},
        "containers[0].ports[0].hostPort",
        "node's",
    ),
    (
        {"containers": [{"securityContext": {"privileged": True}}]},
        "containers[0].securityContext.privileged",
        "restricted",
    ),
    (
        {"initContainers": [{"name": "i", "securityContext": {"allowPrivilegeEscalation": True}}]},
        "initContainers[0].securityContext.allowPrivilegeEscalation",
        "restricted",
    ),
    (
        {"containers": [{"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
        "containers[0].securityContext.capabilities.add",
        "restricted",
    ),
    (
        {"containers": [{"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}]},
        "containers[0].securityContext.capabilities.drop",
        "ALL",
    ),
    (
        {"containers": [{"securityContext": {"capabilities": None}}]},
        "containers[0].securityContext.capabilities",
        "removed",
    ),
    (
        {"containers": [{"securityContext": {"runAsUser": 0}}]},
        "containers[0].securityContext.runAsUser",
        "root",
    ),
]


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


def mount(**fields: Any) -> dict[str, Any]:
    return {"containers": [{"volumeMounts": [{"name": "tmp", "mountPath": "/x", **fields}]}]}


MAY_BE_ALLOWED: list[tuple[dict[str, Any], str, str]] = [
    # What an administrator can allow: template, path, and the remedy that is told.
    ({"priorityClassName": "system-node-critical"}, "priorityClassName",
     "priorityClasses: [system-node-critical]"),
    ({"runtimeClassName": "x"}, "runtimeClassName", "runtimeClasses: [x]"),
    ({"schedulerName": "volcano"}, "schedulerName", "schedulers: [volcano]"),
    ({"tolerations": [{"key": "spot", "operator": "Exists"}]}, "tolerations[0].key",
     "tolerations: [spot]"),
    ({"tolerations": [{"key": "node-role.kubernetes.io/control-plane"}]}, "tolerations[0].key",
     "tolerations: [node-role.kubernetes.io/control-plane]"),
    ({"nodeSelector": {"node-role.kubernetes.io/control-plane": ""}},
     "nodeSelector[node-role.kubernetes.io/control-plane]",
     "nodeSelectors: [node-role.kubernetes.io/control-plane]"),
    ({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "node-restriction.kubernetes.io/team", "operator": "Exists"}]}]}}}},
     "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"
     ".nodeSelectorTerms[0].matchExpressions[0].key",
     "nodeSelectors: [node-restriction.kubernetes.io/team]"),
    (volume(csi={"driver": "x.example.com"}), "volumes[0].csi.driver",
     "csiDrivers: [x.example.com]"),
    ({"someNewField": {"privileged": True}}, "someNewField", "fields: [spec.someNewField]"),
    ({"initContainers": [{"name": "i", "lifecycle": {"stopSignal": "SIGKILL"}}]},
     "initContainers[0].lifecycle.stopSignal",
     "fields: [spec.initContainers.lifecycle.stopSignal]"),
    ({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "namespaceSelector": {}}]}}},
     "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]"
     ".namespaceSelector",
     "fields: [spec.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution"
     ".namespaceSelector]"),
    ({"securityContext": {"seLinuxOptions": {"level": "s0:c1"}}},
     "securityContext.seLinuxOptions.level", "fields: [spec.securityContext.seLinuxOptions.level]"),
    ({"resources": {"limits": {"cpu": "1"}}}, "resources", "fields: [spec.resources]"),
    (volume(ephemeral={"volumeClaimTemplate": {"spec": {"volumeName": "pv"}}}),
     "volumes[0].ephemeral.volumeClaimTemplate.spec.volumeName",
     "fields: [spec.volumes.ephemeral.volumeClaimTemplate.spec.volumeName]"),
]  # fmt: skip
REFUSED += [(template, path, words) for template, path, words in MAY_BE_ALLOWED]
REFUSED += [
    *(
        (volume(**{kind: source}), f"volumes[0].{kind}", "none of the volumes")
        for kind, source in (
            ("nfs", {"server": "x", "path": "/"}),
            ("iscsi", {}),
            ("flexVolume", {"driver": "x"}),
            ("gitRepo", {"repository": "x"}),
            ("image", {"reference": "x"}),
            ("aKindToCome", {}),
        )
    ),
    (
        volume(projected={"sources": [{"podCertificate": {"signerName": "x"}}]}),
        "volumes[0].projected.sources[0].podCertificate",
        "service account",
    ),
    (
        {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}},
        "securityContext.sysctls[0].name",
        "restricted",
    ),
    (
        {"securityContext": {"windowsOptions": {"gmsaCredentialSpecName": "x"}}},
        "securityContext.windowsOptions",
        "Linux",
    ),
    ({"os": {"name": "windows"}}, "os.name", "Linux"),
    ({"securityContext": {"runAsNonRoot": 1}}, "securityContext.runAsNonRoot", "restricted"),
    ({"securityContext": {"runAsUser": True}}, "securityContext.runAsUser", "root"),
    *(
        (
            {"containers": [{probe: {action: {"host": "169.254.169.254", "port": 80}}}]},
            f"containers[0].{probe}.{action}.host",
            "at the pod itself",
        )
        for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        for action in ("httpGet", "tcpSocket")
    ),
    (
        {"containers": [{"lifecycle": {"postStart": {"httpGet": {"host": "x", "port": 80}}}}]},
        "containers[0].lifecycle.postStart.httpGet.host",
        "at the pod itself",
    ),
    (mount(mountPath="../../etc/hippo"), "containers[0].volumeMounts[0].mountPath", "no .."),
    (mount(mountPath="data"), "containers[0].volumeMounts[0].mountPath", "begins with /"),
    (mount(subPath="../.."), "containers[0].volumeMounts[0].subPath", "no .."),
    (mount(subPathExpr="a/../$(A)"), "containers[0].volumeMounts[0].subPathExpr", "no .."),
    (
        mount(mountPropagation="Bidirectional"),
        "containers[0].volumeMounts[0].mountPropagation",
        "node's",
    ),
    ({"tolerations": [{"operator": "Exists"}]}, "tolerations[0].key", "all would be tolerated"),
    (
        {"tolerations": [{"key": None, "operator": "Exists"}]},
        "tolerations[0].key",
        "all would be tolerated",
    ),
    ({"tolerations": [None]}, "tolerations[0]", "null"),
    ({"hostname": 5}, "hostname", '"5"'),
    ({"shareProcessNamespace": "true"}, "shareProcessNamespace", "true or false"),
    ({"activeDeadlineSeconds": "1"}, "activeDeadlineSeconds", "whole number"),
    ({"nodeSelector": {"$patch": "x"}}, "nodeSelector[$patch]", "null"),
]


class TestRefusals:
    @pytest.mark.parametrize(("spec", "path", "words"), REFUSED)
    def test_of_a_spec(self, spec: dict[str, Any], path: str, words: str) -> None:
        with pytest.raises(InvalidSpec) as caught:
            check_template({"spec": spec})
        ((where, message),) = caught.value.errors
        assert where == f"{PATH}.spec.{path}"
        assert words in message
        with pytest.raises(InvalidSpec):
            merge_pod(BASE, {"spec": spec})

    def test_of_a_bare_spec_names_its_own_path(self) -> None:
        with pytest.raises(InvalidSpec, match=r"^spec\.trainer\.podTemplate\.hostNetwork: "):
            check_template({"hostNetwork": True})

    @pytest.mark.parametrize(
        "metadata",
        [
            {"name": "x"},
            {"namespace": "kube-system"},
            {"ownerReferences": []},
            {"finalizers": ["a/b"]},
            {"labels": None},
            {"labels": {"hippo.dev/plan": "other"}},
            {"labels": {"study.hippo.dev/a": None}},
            {"labels": {"app.kubernetes.io/managed-by": "me"}},
            {"labels": {"version": 1}},
            {"annotations": {"hippo.dev/assignment": "{}"}},
            {"annotations": {"container.apparmor.security.beta.kubernetes.io/trainer": "x"}},
            {"annotations": {"kubernetes.io/config.mirror": "x"}},
            *(
                {"annotations": {name: "x"}}
                for name in (
                    "iam.amazonaws.com/role",
                    "io.kubernetes.cri-o.Devices",
                    "k8s.v1.cni.cncf.io/networks",
                    "seccomp.security.alpha.kubernetes.io/pod",
                    "sidecar.istio.io/inject",
                    "vault.hashicorp.com/role",
                )
            ),
            {"labels": {"app.kubernetes.io/name": "hippo"}},
            {"labels": {"app.kubernetes.io/a-label-to-come": "hippo"}},
            {"labels": {"azure.workload.identity/use": "true"}},
            {"labels": {"hippo.dev": "x"}},
            [],
        ],
    )
    def test_of_metadata(self, metadata: Any) -> None:
        with pytest.raises(InvalidSpec, match=r"^spec\.trainer\.podTemplate\.metadata"):
            check_template({"metadata": metadata})

    def test_all_at_once(self) -> None:
        with pytest.raises(InvalidSpec) as caught:
            check_template({"spec": {"hostPID": True, "nodeName": "a"}, "status": {}})
        assert len(caught.value.errors) == 3

    @pytest.mark.parametrize("template", [None, [], {"spec": []}, {"spec": "x"}])
    def test_of_what_is_no_template(self, template: Any) -> None:
        with pytest.raises(InvalidSpec, match="must be a mapping"):
            check_template(template)

    @pytest.mark.parametrize(
        "spec",
        [
            {"volumes": [{"name": "work", "emptyDir": {}}]},
            {"containers": [{"volumeMounts": [{"name": "w", "mountPath": "/hippo/assignment/"}]}]},
            {"containers": [{"volumeMounts": [{"name": "work", "mountPath": "/other"}]}]},
            {"containers": [{"volumeMounts": [{"name": "w", "mountPath": "/hippo"}]}]},
            {"containers": [{"volumeMounts": [{"name": "w", "mountPath": "/"}]}]},
            {
                "containers": [
                    {"volumeMounts": [{"name": "w", "mountPath": "//hippo/./assignment"}]}
                ]
            },
            {"containers": [{"volumeDevices": [{"name": "w", "devicePath": "/hippo"}]}]},
            {"containers": [{"terminationMessagePath": "/hippo/assignment/assignment.json"}]},
            {"containers": [{"volumeMounts": [{"name": "w", "mountPath": "/hippo/assignment/a"}]}]},
        ],
    )
    def test_of_whatever_hides_the_assignment(self, spec: dict[str, Any]) -> None:
        check_template(spec)
        with pytest.raises(InvalidSpec, match="assignment"):
            merge_pod(BASE, spec)

    def test_none_of_what_is_as_it_should_be(self) -> None:
        check_template(
            {
                "hostNetwork": False,
                "hostUsers": False,
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "securityContext": {"fsGroup": 1000, "runAsUser": 1000},
                "imagePullSecrets": [{"name": "pull"}],
                "schedulerName": "default-scheduler",
                "containers": [
                    {"securityContext": {**SECURITY, "privileged": False}},
                    {"name": "side", "volumeMounts": [{"name": "a", "mountPath": "/hippo"}]},
                ],
            }
        )

    def test_nor_of_usual_scheduling(self) -> None:
        away = {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"}
        zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a", "b"]}
        check_template(
            {
                "metadata": {
                    "labels": {"team": "vision", "kueue.x-k8s.io/queue-name": "research"},
                    "annotations": {"karpenter.sh/do-not-disrupt": "true", "note": "as it is"},
                },
                "spec": {
                    "nodeSelector": {"nvidia.com/gpu.product": "A100", "pool": "gpu"},
                    "tolerations": [
                        {"key": GPU, "operator": "Exists", "effect": "NoSchedule"},
                        {"key": "node.kubernetes.io/unreachable", "tolerationSeconds": 30},
                    ],
                    "affinity": {
                        "nodeAffinity": {
                            "requiredDuringSchedulingIgnoredDuringExecution": {
                                "nodeSelectorTerms": [{"matchExpressions": [away, zone]}]
                            }
                        }
                    },
                },
            }
        )

    def test_nor_of_the_volumes_of_every_day(self) -> None:
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        sources = [{"secret": {"name": "s"}}, {"configMap": {"name": "c"}}]
        sources += [{"downwardAPI": {"items": [{"path": "a/b"}]}}]
        volumes = {
            "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"},
            "configMap": {"name": "c", "items": [{"key": "k", "path": "a/b", "mode": 0o400}]},
            "secret": {"secretName": "s", "optional": True},
            "persistentVolumeClaim": {"claimName": "data", "readOnly": True},
            "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]},
            "ephemeral": {"volumeClaimTemplate": {"spec": claim}},
            "projected": {"sources": sources},
        }
        named = [{"name": kind.lower(), kind: source} for kind, source in volumes.items()]
        check_template({"volumes": named})


class TestWhatAnAdministratorAllows:
    @pytest.mark.parametrize(("spec", "path", "remedy"), MAY_BE_ALLOWED)
    def test_the_remedy_that_is_told_is_one(
        self, spec: dict[str, Any], path: str, remedy: str
    ) -> None:
        with pytest.raises(InvalidSpec, match=re.escape(f"by stagePods.allow.{remedy} in")):
            check_template(spec)
        kind, _, name = remedy.partition(": ")
        check_template(spec, read_allowance([f"{kind}={name[1:-1]}"]))

    def test_names_and_beginnings_of_names(self) -> None:
        metadata = {
            "labels": {"example.com/team": "a", "team": "a", "kueue.x-k8s.io/queue-name": "q"},
            "annotations": {"example.org/a": "b"},
        }
        with pytest.raises(InvalidSpec) as caught:
            check_template({"metadata": metadata})
        assert [path for path, _ in caught.value.errors] == [
            f"{PATH}.metadata.labels[example.com/team]",
            f"{PATH}.metadata.annotations[example.org/a]",
        ]
        allowance = read_allowance(["labels=example.com/team", "annotations=example.org/*"])
        check_template({"metadata": metadata}, allowance)
        with pytest.raises(InvalidSpec, match="restricted"):
            check_template(
                {"metadata": {"annotations": {"kubernetes.io/config.source": "x"}}},
                read_allowance(["annotations=*"]),
            )

    def test_nothing_lifts_what_never_can_be(self) -> None:
        """Whatever is allowed as far as it can be."""
        every = read_allowance([f"{kind}=*" for kind in BUILT_IN if kind != "fields"])
        for spec, path, words in REFUSED:
            if (spec, path, words) not in MAY_BE_ALLOWED:
                with pytest.raises(InvalidSpec):
                    check_template(spec, every)

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ("colours=red", "KIND one of annotations, labels"),
            ("labels", "must be labels= and a name, or the beginning of one and *"),
            ("labels=", "must be labels= and a name"),
            ("labels=a*b", "must be labels= and a name"),
            ("labels=" + "a" * 318, "must be labels= and a name"),
            ("labels=hippo.dev/*", "is the operator's"),
            ("labels=app.kubernetes.io/name", "belongs to what is installed"),
            ("annotations=kubernetes.io/config.*", "restricted"),
            ("fields=spec.*", "must be fields= and a name"),
            ("fields=spec.hostPID", "can be allowed to no study"),
            ("fields=spec.volumes.nfs", "can be allowed to no study"),
            ("fields=spec.volumes.hostPath.path", "can be allowed to no study"),
            ("fields=spec.containers.securityContext.privileged", "can be allowed to no study"),
            ("fields=spec.containers.securityContext.windowsOptions", "can be allowed to no study"),
            ("fields=spec.containers.image", "is among the fields that studies may set"),
            ("fields=spec", "is among the fields that studies may set"),
            ("fields=spec.contaners.image", "name spec.contaners"),
            ("fields=metadata", "name spec.FIELD"),
        ],
    )
    def test_what_cannot_be_allowed_is_told(self, given: str, words: str) -> None:
        with pytest.raises(ValueError, match=r"^--allow ") as caught:
            read_allowance([given])
        assert words in str(caught.value)

    def test_not_more_than_can_be_looked_through(self) -> None:
        names_ = [f"labels=a{n}/b" for n in range(MAX_ALLOWED)]
        assert read_allowance(names_).has("labels", "a999/b")
        with pytest.raises(ValueError, match="at most 1,000 times"):
            read_allowance([*names_, "labels=b/b"])


# -- properties ------------------------------------------------------------------------------------

words = st.sampled_from(["a", "b", "tmp", "work", "trainer", "HIPPO_STORE"])
places = st.sampled_from(["/tmp", "/data", "/a", "data"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-1, 3), words)
quantities = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["1", "500m"]))
flags = st.sampled_from([True, False, False, None])


def some(
    *, needs: dict[str, st.SearchStrategy[Any]] | None = None, **fields: st.SearchStrategy[Any]
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(needs or {}, optional=fields)


securities = st.one_of(
    st.just({"runAsUser": 1000}),
    some(runAsNonRoot=flags, runAsUser=st.one_of(st.none(), st.integers(-1, 2), st.booleans())),
    some(privileged=flags, allowPrivilegeEscalation=flags),
    some(
        capabilities=some(
            add=st.one_of(st.none(), st.lists(st.just("SYS_ADMIN"), max_size=1)),
            drop=st.one_of(st.none(), st.lists(st.sampled_from(["ALL", "KILL"]))),
        )
    ),
    some(seccompProfile=st.one_of(st.none(), some(type=st.sampled_from(["Unconfined", "x"])))),
)
containers = st.lists(
    some(
        needs={"name": words},
        image=words,
        args=st.lists(words),
        env=st.lists(
            some(
                needs={"name": words},
                value=st.none() | words,
                valueFrom=some(secretKeyRef=some(name=words, key=words)),
            )
        ),
        ports=st.lists(some(needs={"containerPort": st.integers(1, 3)}, name=words)),
        volumeMounts=st.lists(some(needs={"mountPath": places}, name=words)),
        securityContext=securities,
        resources=some(limits=st.dictionaries(words, quantities)),
    ),
    max_size=3,
    unique_by=lambda container: container["name"],
)
templates = some(
    containers=containers,
    initContainers=containers,
    volumes=st.lists(
        some(
            needs={"name": words},
            emptyDir=some(sizeLimit=quantities),
            secret=some(secretName=words),
        ),
        max_size=2,
    ),
    tolerations=st.lists(some(needs={"key": st.sampled_from([GPU, "a"])}, value=words), max_size=2),
    nodeSelector=st.dictionaries(words, st.none() | words),
    securityContext=securities,
    automountServiceAccountToken=st.sampled_from([False, False, None, True]),
    restartPolicy=st.sampled_from(["Never", "Never", "Always", None]),
    hostNetwork=st.sampled_from([False, False, True]),
)


def try_to_merge(template: Any) -> dict[str, Any] | None:
    """None: it was refused, with reasons."""
    try:
        return merge_pod(BASE, template)
    except InvalidSpec as error:
        refused = error
    assert refused.errors
    assert all(path.startswith(PATH) and message for path, message in refused.errors)
    return None


@pytest.mark.slow
@given(templates)
def test_merging_again_changes_nothing(template: dict[str, Any]) -> None:
    once = try_to_merge(template)
    assert once is None or merge_pod(once, template) == once


@pytest.mark.slow
@given(templates)
def test_no_template_makes_a_pod_less_secure(template: dict[str, Any]) -> None:
    pod = try_to_merge(template)
    if pod is None:
        return
    spec = pod["spec"]
    assert not spec.get("hostNetwork")
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"].get("type") == "RuntimeDefault"
    assert spec["securityContext"].get("runAsUser", 1) > 0
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        security = container["securityContext"]
        assert not security.get("privileged")
        assert not security["allowPrivilegeEscalation"]
        assert "ALL" in security["capabilities"]["drop"]
        assert not security["capabilities"].get("add")
        assert security.get("runAsNonRoot", True)
        assert security.get("runAsUser", 1) > 0
    assert trainer(spec)["volumeMounts"][0] == BASE["spec"]["containers"][0]["volumeMounts"][0]
    assert spec["volumes"][0] == BASE["spec"]["volumes"][0]
    assert pod["metadata"] == BASE["metadata"]


@pytest.mark.slow
@given(st.recursive(scalars, lambda x: st.one_of(st.lists(x), st.dictionaries(words, x))))
def test_nothing_else_is_raised(anything: Any) -> None:
    for template in (anything, {"spec": anything}, {"spec": {"containers": anything}}):
        try_to_merge(template)
