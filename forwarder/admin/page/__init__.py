"""The page for people, as files: read once, served as they are."""

from __future__ import annotations

from pathlib import Path

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/order.js": ("order.js", "text/javascript; charset=utf-8"),
    "/plots.js": ("plots.js", "text/javascript; charset=utf-8"),
    "/sentences.js": ("sentences.js", "text/javascript; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}

PAGE = {path: (kind, Path(__file__).with_name(name).read_bytes()) for path, (name, kind) in _FILES.items()}
"""Where each file is to be found: its content type and its bytes."""
