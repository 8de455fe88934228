"""CEL, the Common Expression Language, as far as mappings need it, compiled to Python.

Syntax and meaning are CEL's (https://github.com/google/cel-spec, read 2026-11); only the binding is
ours: every declared field exists, a missing one is null, a missing list is []. Left out: map and
message literals, bytes, unsigned integers, timestamps and durations as types, optionals.

    syntax.py       text -> tree: tokens, grammar, limits
    compiler.py     tree -> a Python function: names, kinds of value, arguments
    function.py     kinds of value, and what a function says of itself
    operations.py   what operators and list macros do at run time
"""

from mappings.cel.compiler import Expression, compile_expression
from mappings.cel.function import Function, Kind

__all__ = ["Expression", "Function", "Kind", "compile_expression"]
