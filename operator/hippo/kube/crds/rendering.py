"""Generated manifests as text: one text for one document, which every YAML reader reads alike."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, ScalarNode
from ruamel.yaml.representer import SafeRepresenter

HEADER = """\
# Generated from the models in operator/hippo: do not edit.
# After a change there: {command}
"""

_PLAIN = re.compile(r"[A-Za-z.][A-Za-z0-9 ./-]*")
_AMBIGUOUS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


class _Representer(SafeRepresenter):
    """Quotes what is not plainly text by YAML 1.1 too, by which kubectl and Helm read."""

    def represent_text(self, text: str) -> ScalarNode:
        if _PLAIN.fullmatch(text) and text.lower() not in _AMBIGUOUS and text == text.strip():
            style = None
        else:
            style = '"' if "'" in text else "'"
        node: ScalarNode = self.represent_scalar("tag:yaml.org,2002:str", text, style=style)
        return node

    def represent_fields(self, fields: dict[str, Any]) -> MappingNode:
        """What has a name is worth lines of its own: so charts find metadata to add to."""
        node: MappingNode = self.represent_mapping("tag:yaml.org,2002:map", fields)
        if "name" in fields:
            node.flow_style = False
        return node


_Representer.add_representer(str, _Representer.represent_text)
_Representer.add_representer(dict, _Representer.represent_fields)


def render(*documents: Mapping[str, Any], command: str) -> str:
    """The content of a file that the command writes."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = None  # what holds only plain values stands on a line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    stream = io.StringIO()
    stream.write(HEADER.format(command=command))
    for number, document in enumerate(documents):
        stream.write("---\n" if number else "")
        # A copy without shared parts: no anchors.
        yaml.dump(json.loads(json.dumps(document)), stream)
    return stream.getvalue()
