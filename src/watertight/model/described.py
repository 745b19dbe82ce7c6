"""What stands below a key of a shape, as text: read from the source once somebody asks.

Pydantic does so itself (``use_attribute_docstrings``), but for every shape as it is imported, which
each command would wait for.
"""

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


@cache
def descriptions(shape: type[BaseModel]) -> Mapping[str, str]:
    """Name of a field → the docstring below it. Empty where there is no source."""
    found: dict[str, str] = {}
    for kind in reversed(shape.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _of(kind)
    return found


def _of(kind: type[BaseModel]) -> Mapping[str, str]:
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, SyntaxError):
        return {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
