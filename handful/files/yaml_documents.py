"""YAML as plain values; objects have the number of their line, and every scalar is a text, ``no`` and ``1`` too."""

from typing import Any

import yaml

from handful.files.content import Content
from handful.files.documents import Located, locate_text
from handful.files.rows import FileInvalid

_MAX_DEPTH = 20
# libyaml is some ten times faster, and not in every build
_Loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


def read_yaml(content: Content) -> Any:
    """Reads the document of a YAML file.

    Raises:
        FileInvalid: The file is not valid YAML.
    """
    try:
        node = yaml.compose(content.text, Loader=_Loader)
        return None if node is None else _value(node, {}, _MAX_DEPTH)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line + 1
        raise FileInvalid(content.source, line, f"this is not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise FileInvalid(content.source, 0, f"this is not YAML: {error}") from error


def _value(node: yaml.Node, made: dict[int, Any], depth: int) -> Any:
    """Makes a node's value once, so that aliases of aliases do not grow without bound."""
    if depth == 0:
        raise RecursionError("nested too deeply, or in itself")
    if id(node) not in made:
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            items = [(str(_value(key, made, 1)), _value(value, made, depth - 1)) for key, value in node.value]
            made[id(node)] = Located(items, line)
            if len(made[id(node)]) != len(items):
                raise yaml.MarkedYAMLError(problem="a key stands twice in one mapping", problem_mark=node.start_mark)
        elif isinstance(node, yaml.SequenceNode):
            made[id(node)] = [_value(item, made, depth - 1) for item in node.value]
        else:
            # The content of a block starts on the line after its mark
            block = node.style in {"|", ">"}
            made[id(node)] = locate_text(node.value, line + block, folded=node.style == ">")
    return made[id(node)]
