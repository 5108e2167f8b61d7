"""Every sentence that the program may print, with its place, to read them all: ``python -m docs.messages``.

Invariants:
- A text of the source is a message when it has two words, unless it is a docstring, SQL or a pattern.
- What a message is filled with stands as ``{...}``, as the source has it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
_SQL = (
    "SELECT INSERT UPDATE DELETE CREATE DROP ALTER PRAGMA BEGIN COMMIT ROLLBACK REPLACE ATTACH WITH VACUUM "
    "REINDEX ANALYZE FROM WHERE VALUES LIMIT ORDER AND UNION"
)
_IS_SQL = re.compile(rf"\s*({'|'.join(_SQL.split())})\b").match
_HAS_WORDS = re.compile(r"[A-Za-z'`.,:}]{2,}\s+\S*[A-Za-z{]{2,}").search
_LOG_LEVELS = {"debug", "info", "warning", "error", "exception", "log", "critical"}


class Message(NamedTuple):
    """``kind``: log, raise, help, setting, or the name of the call that gets the text."""

    path: str
    line: int
    kind: str
    text: str


def messages(root: Path = ROOT / "forwarder") -> Iterator[Message]:
    """Those of every module below a directory, in the order of the files."""
    for path in sorted(root.rglob("*.py")):
        name = str(path.relative_to(root.parent))
        for line, kind, text in _Finder(ast.parse(path.read_text())).found:
            yield Message(name, line, kind, text)


class _Finder(ast.NodeVisitor):
    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._kinds = ["text"]
        self.visit(tree)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._within(node, "raise")

    def visit_Call(self, node: ast.Call) -> None:
        self._within(node, _kind(node) or self._kinds[-1])

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            self._take(node, text)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(node, "".join(map(_part, node.values)))
        for each in node.values:
            if isinstance(each, ast.FormattedValue):
                self.visit(each.value)

    def _within(self, node: ast.AST, kind: str) -> None:
        self._kinds.append(kind)
        self.generic_visit(node)
        self._kinds.pop()

    def _take(self, node: ast.expr, text: str) -> None:
        if _HAS_WORDS(text) and not _IS_SQL(text) and self._kinds[-1] != "pattern":
            self.found.append((node.lineno, self._kinds[-1], " ".join(text.split())))


def _kind(call: ast.Call) -> str:
    """What a call does with its texts; "" when it only passes them on."""
    name = ast.unparse(call.func)
    last = name.rpartition(".")[2]
    if last in _LOG_LEVELS:
        return "log"
    if name.startswith("re."):
        return "pattern"
    kinds = {"Meta": "setting", "add_argument": "help", "add_parser": "help", "add_argument_group": "help"}
    return kinds.get(last, "" if last in ("join", "format", "str", "partial") else last)


def _part(value: ast.expr) -> str:
    if isinstance(value, ast.FormattedValue):
        return f"{{{ast.unparse(value.value)}}}"
    return str(value.value) if isinstance(value, ast.Constant) else ""


def main() -> None:
    """Print them, those of the files that have one of the arguments in their names."""
    for path, line, kind, text in messages():
        if not sys.argv[1:] or any(word in path for word in sys.argv[1:]):
            print(f"{path}:{line}: {kind}: {text}")


if __name__ == "__main__":
    main()
