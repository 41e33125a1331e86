"""What a user's ``podTemplate`` must not ask for, and what of it cannot be merged.

Whoever may create a Study need not be allowed to create pods, and the operator is. So what would
give a pod another identity, the node's namespaces or more rights than the restricted Pod Security
standard is refused, here and by name. What else is wrong the API server says, in a dry run of the
first pod.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from hippo.kube import names
from hippo.model import InvalidSpec
from hippo.model.errors import Problems

PATH = "spec.trainer.podTemplate"

RESERVED_PREFIX = "hippo-"
"""Of the names of volumes that the operator mounts: no template may define one."""

MERGE_KEYS: dict[tuple[str, str], tuple[str, ...]] = {
    # (what holds the list, field) -> what tells its items apart: the patchMergeKey of Kubernetes'
    # types and, where one key is not enough, the other keys of the list's map. Other lists, such as
    # tolerations, are replaced as a whole there, so they are here.
    ("spec", "containers"): ("name",),
    ("spec", "initContainers"): ("name",),
    ("spec", "volumes"): ("name",),
    ("spec", "imagePullSecrets"): ("name",),
    ("spec", "resourceClaims"): ("name",),
    ("spec", "schedulingGates"): ("name",),
    ("spec", "hostAliases"): ("ip",),
    ("spec", "topologySpreadConstraints"): ("topologyKey", "whenUnsatisfiable"),
    ("container", "env"): ("name",),
    ("container", "ports"): ("containerPort", "protocol"),
    ("container", "volumeMounts"): ("mountPath",),
    ("container", "volumeDevices"): ("devicePath",),
}
KEY_DEFAULTS = {"protocol": "TCP"}
"""Of keys of items, where Kubernetes has one."""

_RUNS_AS_ITS_OWN = "pods of studies run without a service account and its token: remove it"
_NOT_THE_NODES = "pods of studies have no part in the node's namespaces: remove it"
_NOT_PRIVILEGED = "pods of studies run under the restricted Pod Security standard: remove it"
_PRIVILEGED_ANNOTATIONS = (
    "container.apparmor.security.beta.kubernetes.io/",
    "kubernetes.io/config.",
)
"""Beginnings of annotations that kubelets take for settings: of a profile, and of static pods."""


def check_template(template: Mapping[str, Any]) -> None:
    """Raises InvalidSpec with all that no study's pod may have, or that cannot be merged."""
    problems = Problems()
    if not isinstance(template, Mapping):
        raise InvalidSpec.at(PATH, "must be a mapping with metadata and spec")
    metadata, spec, path = split_template(template)
    if path != PATH:
        for field in template:
            if field not in ("metadata", "spec"):
                problems.add(f"{PATH}.{field}", "is not known here: metadata and spec are")
    _check_metadata(metadata, problems)
    if isinstance(spec, Mapping):
        _check_spec(spec, path, problems)
    else:
        problems.add(path, "must be a mapping: the fields of a pod's spec")
    problems.raise_if_any()


def split_template(template: Mapping[str, Any]) -> tuple[Any, Any, str]:
    """Metadata, spec, and the path of the latter."""
    if not template or "spec" in template or "metadata" in template:
        metadata, spec = template.get("metadata"), template.get("spec")
        return (
            ({} if metadata is None else metadata),
            ({} if spec is None else spec),
            f"{PATH}.spec",
        )
    return {}, template, PATH


def _check_metadata(metadata: Any, problems: Problems) -> None:
    path = f"{PATH}.metadata"
    if not isinstance(metadata, Mapping):
        problems.add(path, "must be a mapping with labels and annotations")
        return
    for field, values in metadata.items():
        if field not in ("labels", "annotations"):
            problems.add(
                f"{path}.{field}", "is the operator's: only labels and annotations can be set here"
            )
        elif not isinstance(values, Mapping):
            problems.add(f"{path}.{field}", "must be a mapping of names to text")
        else:
            for name, value in values.items():
                _check_label(f"{path}.{field}", name, value, problems)


def _check_label(path: str, name: Any, value: Any, problems: Problems) -> None:
    prefix = str(name).rpartition("/")[0]
    is_ours = prefix == names.GROUP or prefix.endswith(f".{names.GROUP}")
    if is_ours or name == names.LABEL_MANAGED_BY:
        problems.add(f"{path}[{name}]", "is the operator's: choose another name")
    elif str(name).startswith(_PRIVILEGED_ANNOTATIONS):
        problems.add(f"{path}[{name}]", _NOT_PRIVILEGED)
    elif value is not None and not isinstance(value, str):
        problems.add(f"{path}[{name}]", f'must be text: write "{value}" with quotes')


def _check_spec(spec: Mapping[str, Any], path: str, problems: Problems) -> None:
    for field in ("serviceAccountName", "serviceAccount"):
        if spec.get(field):
            problems.add(f"{path}.{field}", _RUNS_AS_ITS_OWN)
    if spec.get("automountServiceAccountToken", False) is not False:
        problems.add(f"{path}.automountServiceAccountToken", _RUNS_AS_ITS_OWN)
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            problems.add(f"{path}.{field}", _NOT_THE_NODES)
    if spec.get("hostUsers", False) is not False:
        problems.add(f"{path}.hostUsers", _NOT_THE_NODES)
    if spec.get("restartPolicy", "Never") != "Never":
        problems.add(
            f"{path}.restartPolicy",
            "must be Never: the operator tries again, from the last checkpoint; remove it",
        )
    if spec.get("nodeName"):
        problems.add(
            f"{path}.nodeName", "leaves out the scheduler: use nodeSelector or affinity instead"
        )
    if spec.get("ephemeralContainers"):
        problems.add(f"{path}.ephemeralContainers", "cannot be given to a new pod: remove it")
    _check_directives(spec, path, problems)
    _check_security(spec.get("securityContext", {}), f"{path}.securityContext", problems)
    for volume, position in _items(spec, path, "volumes", problems):
        _check_volume(volume, position, problems)
    for field in ("containers", "initContainers"):
        _check_containers(spec, path, field, problems)
    for field in ("imagePullSecrets", "resourceClaims", "schedulingGates", "hostAliases"):
        for _ in _items(spec, path, field, problems):
            pass
    for _ in _items(spec, path, "topologySpreadConstraints", problems):
        pass


def _items(
    holder: Mapping[str, Any], path: str, field: str, problems: Problems, kind: str = "spec"
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The items of a list that is merged by key, those that can be merged, and their paths."""
    if field not in holder:
        return
    items = holder[field]
    if not isinstance(items, list):
        problems.add(f"{path}.{field}", "must be a list; it cannot be removed as a whole")
        return
    for index, item in enumerate(items):
        position = f"{path}.{field}[{index}]"
        if not isinstance(item, Mapping):
            problems.add(position, "must be a mapping")
            continue
        wrong = [
            (key, item.get(key))
            for key in MERGE_KEYS[kind, field]
            if not (item.get(key) is None and (key in KEY_DEFAULTS or field == "containers"))
            and (not isinstance(item.get(key), int if key == "containerPort" else str))
        ]
        for key, _ in wrong:
            problems.add(f"{position}.{key}", "is missing, or no text: items are told apart by it")
        if not wrong:
            yield item, position


def _check_directives(value: Any, path: str, problems: Problems) -> None:
    """``$patch`` and its kin would pass for fields."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            if str(name).startswith("$"):
                problems.add(
                    f"{path}.{name}", "is not known here: set a field to null to remove it"
                )
            _check_directives(item, f"{path}.{name}", problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_directives(item, f"{path}[{index}]", problems)


def _check_volume(volume: Mapping[str, Any], path: str, problems: Problems) -> None:
    if str(volume["name"]).startswith(RESERVED_PREFIX):
        problems.add(
            f"{path}.name",
            f"names that begin with {RESERVED_PREFIX} are the operator's: choose another one",
        )
    if volume.get("hostPath") is not None:
        problems.add(
            f"{path}.hostPath",
            "pods of studies see no files of their node: use a persistentVolumeClaim",
        )
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, Mapping) else None
    for index, source in enumerate(sources if isinstance(sources, list) else []):
        if isinstance(source, Mapping) and source.get("serviceAccountToken") is not None:
            problems.add(f"{path}.projected.sources[{index}].serviceAccountToken", _RUNS_AS_ITS_OWN)


def _check_containers(spec: Mapping[str, Any], path: str, field: str, problems: Problems) -> None:
    seen: set[str] = set()
    for container, position in _items(spec, path, field, problems):
        name = str(container.get("name") or names.TRAINER_CONTAINER)
        if name in seen:
            problems.add(
                position,
                f"is the second container {name}: give it a name of its own"
                + (
                    "; one without a name is the trainer's"
                    if name == names.TRAINER_CONTAINER
                    else ""
                ),
            )
        seen.add(name)
        _check_container(container, position, field, problems)


def _check_container(
    container: Mapping[str, Any], path: str, field: str, problems: Problems
) -> None:
    if field == "containers" and (
        container.get("restartPolicy", "Never") != "Never" or container.get("restartPolicyRules")
    ):
        problems.add(
            f"{path}.restartPolicy",
            "must be Never, or the pod would not end with its trainer: remove it; a sidecar stands"
            " below initContainers, with restartPolicy Always",
        )
    _check_security(container.get("securityContext", {}), f"{path}.securityContext", problems)
    for port, position in _items(container, path, "ports", problems, "container"):
        if port.get("hostPort"):
            problems.add(f"{position}.hostPort", _NOT_THE_NODES)
    for variable, position in _items(container, path, "env", problems, "container"):
        value = variable.get("value")
        if value is not None and not isinstance(value, str):
            problems.add(f"{position}.value", f'must be text: write "{value}" with quotes')
    for field_ in ("volumeMounts", "volumeDevices"):
        for _ in _items(container, path, field_, problems, "container"):
            pass


_SECURE: dict[str, tuple[Any, ...]] = {
    # Values that leave a pod no less secure; all others are refused. Null takes away what is set.
    "privileged": (False, None),
    "allowPrivilegeEscalation": (False,),
    "runAsNonRoot": (True,),
    "procMount": ("Default", None),
}


_SE_LINUX_TYPES = (None, "", "container_t", "container_init_t", "container_kvm_t")
"""That the restricted standard allows, beside none."""


def _check_security(security: Any, path: str, problems: Problems) -> None:
    """Of a pod or a container: only stricter than what the operator sets, or beside it."""
    if not isinstance(security, Mapping):
        problems.add(path, "must be a mapping; it cannot be removed")
        return
    for field, allowed in _SECURE.items():
        if security.get(field, allowed[0]) not in allowed:
            problems.add(f"{path}.{field}", _NOT_PRIVILEGED)
    user = security.get("runAsUser")
    if user is not None and (not isinstance(user, int) or isinstance(user, bool) or user <= 0):
        problems.add(f"{path}.runAsUser", "must be the number of a user other than root")
    _check_capabilities(security.get("capabilities", {}), f"{path}.capabilities", problems)
    for field in ("seccompProfile", "appArmorProfile"):
        profile = security.get(field, {})
        kind = profile.get("type", "RuntimeDefault") if isinstance(profile, Mapping) else None
        if kind not in ("RuntimeDefault", "Localhost"):
            problems.add(f"{path}.{field}", _NOT_PRIVILEGED)
    labels = security.get("seLinuxOptions")
    if labels is not None and (
        not isinstance(labels, Mapping)
        or labels.get("user")
        or labels.get("role")
        or labels.get("type") not in _SE_LINUX_TYPES
    ):
        problems.add(f"{path}.seLinuxOptions", _NOT_PRIVILEGED)
    windows = security.get("windowsOptions")
    if isinstance(windows, Mapping) and windows.get("hostProcess"):
        problems.add(f"{path}.windowsOptions.hostProcess", _NOT_PRIVILEGED)


def _check_capabilities(capabilities: Any, path: str, problems: Problems) -> None:
    if not isinstance(capabilities, Mapping):
        problems.add(path, _NOT_PRIVILEGED)
        return
    if capabilities.get("add"):
        problems.add(f"{path}.add", _NOT_PRIVILEGED)
    dropped = capabilities.get("drop", ["ALL"])
    if not isinstance(dropped, list) or "ALL" not in dropped:
        problems.add(f"{path}.drop", "must hold ALL: remove it")


def check_assignment(base: Mapping[str, Any], spec: Mapping[str, Any], path: str) -> None:
    """Nothing may hide or replace what tells the runner its work. ``spec`` is a template's, checked
    otherwise and lying at ``path``. Raises InvalidSpec.
    """
    problems = Problems()
    own = base.get("spec", {})
    volumes = {v.get("name") for v in own.get("volumes", []) if _holds_assignment(v)}
    for index, volume in enumerate(spec.get("volumes", [])):
        if volume["name"] in volumes:
            problems.add(
                f"{path}.volumes[{index}].name", "holds the pod's assignment: choose another name"
            )
    mounts = [
        _place(mount)
        for container in own.get("containers", [])
        if container.get("name") == names.TRAINER_CONTAINER
        for mount in container.get("volumeMounts", [])
        if mount.get("name") in volumes
    ]
    for index, container in enumerate(spec.get("containers", [])):
        if (container.get("name") or names.TRAINER_CONTAINER) != names.TRAINER_CONTAINER:
            continue
        for position, mount in enumerate(container.get("volumeMounts", [])):
            place = _place(mount)
            if mount.get("name") in volumes:
                problems.add(
                    f"{path}.containers[{index}].volumeMounts[{position}].name",
                    "holds the pod's assignment, which is mounted already: remove it",
                )
            elif any(place.is_relative_to(own) or own.is_relative_to(place) for own in mounts):
                problems.add(
                    f"{path}.containers[{index}].volumeMounts[{position}].mountPath",
                    "the pod's assignment lies there: choose another path",
                )
    problems.raise_if_any()


def _holds_assignment(volume: Mapping[str, Any]) -> bool:
    return names.ANNOTATION_ASSIGNMENT in str(volume.get("downwardAPI", ""))


def _place(mount: Mapping[str, Any]) -> PurePosixPath:
    return PurePosixPath("/", posixpath.normpath(str(mount["mountPath"])).lstrip("/"))
