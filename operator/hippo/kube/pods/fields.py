"""Reading fields of a Pod, as the API returns it: what is missing or of another kind is nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from hippo.kube import names

MAX_WORDS = 300
"""Characters of a foreign message that are quoted."""


def get_map(value: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at this path; an empty one if there is none."""
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def list_maps(value: Any) -> Iterator[Mapping[str, Any]]:
    """The mappings of a list."""
    items = value if isinstance(value, list) else ()
    return (item for item in items if isinstance(item, Mapping))


def find_named(value: Any, name: str) -> Mapping[str, Any]:
    """The first of that name in a list."""
    return next((item for item in list_maps(value) if item.get("name") == name), {})


def read_exit_code(ended: Mapping[str, Any]) -> int | None:
    """The exit code in the state of a container that has ended."""
    code = ended.get("exitCode")
    return code if isinstance(code, int) else None


def find_condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """A condition of a pod."""
    conditions = list_maps(get_map(pod, "status").get("conditions"))
    return next((item for item in conditions if item.get("type") == kind), {})


def read_time(text: Any) -> float | None:
    """Unix time. The epoch itself stands for a time that was never set."""
    try:
        return datetime.fromisoformat(text).timestamp() or None
    except (TypeError, ValueError):
        return None


def read_words(holder: Mapping[str, Any]) -> str:
    """A message on one line, as a part of a sentence."""
    text = " ".join(str(holder.get("message") or "").split()).rstrip(".: ")
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 3]}..."


def read_last_line(ended: Mapping[str, Any]) -> str:
    """The last line of a termination message: in the end of a log, an error is named last."""
    lines = [line for line in str(ended.get("message") or "").splitlines() if line.strip()]
    return read_words({"message": lines[-1]}) if lines else ""


def describe_memory_limit(pod: Mapping[str, Any]) -> str:
    """The trainer's memory limit in parentheses, after a space; empty if it has none."""
    container = find_named(get_map(pod, "spec").get("containers"), names.TRAINER_CONTAINER)
    limit = get_map(container, "resources", "limits").get("memory")
    return f" (limit {limit})" if limit else ""


def read_node(pod: Mapping[str, Any]) -> str:
    """The name of the pod's node; ``?`` if it has none."""
    return str(get_map(pod, "spec").get("nodeName") or "?")


def read_namespace(pod: Mapping[str, Any]) -> str:
    """The pod's namespace."""
    return str(get_map(pod, "metadata").get("namespace") or "default")


def describe_logs(pod: Mapping[str, Any], container: str) -> str:
    """The command that shows a container's log."""
    name = get_map(pod, "metadata").get("name")
    return f"kubectl logs -n {read_namespace(pod)} {name} -c {container}"
