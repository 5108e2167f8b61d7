"""How large each package is, as the table of docs/architecture.md: `python -m docs.sizes COMMIT [COMMIT]`."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping

SINGLE = "single files"

Lines = Mapping[str, int]
"""A file's path within its package to its number of lines."""


def packages(commit: str) -> Mapping[str, Lines]:
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    command = ["git", "grep", "--count", "", commit, "--", "forwarder/*.py"]
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        _, path, count = line.rsplit(":", 2)
        package, slash, file = path.removeprefix("forwarder/").partition("/")
        found[f"`{package}/`" if slash else SINGLE][file or package] = int(count)
    found["all"] = {f"{package}{file}": n for package, files in found.items() for file, n in files.items()}
    return found


def cells(files: Lines) -> str:
    if not files:
        return "- | - | -"
    longest = max(files, key=files.__getitem__)
    return f"{len(files)} | {sum(files.values()):,} | {files[longest]} ({longest.replace('`', '')})"


def table(commits: list[str]) -> str:
    sizes = [packages(commit) for commit in commits]
    names = sorted({name for each in sizes for name in each} - {SINGLE, "all"})
    rows = ["| package |" + " files | lines | longest file |" * len(sizes)]
    rows.append("|---|" + "---|---|---|" * len(sizes))
    for name in [*names, SINGLE, "all"]:
        rows.append(f"| {name} | " + " | ".join(cells(each.get(name, {})) for each in sizes) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(sys.argv[1:] or ["HEAD"]))
