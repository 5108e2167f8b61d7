"""A real Prometheus that scrapes a daemon, with the rules of deploy/prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.e2e.environments import debian_program
from tests.e2e.processes import ask, free_port, running

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"


def promtool() -> str:
    return debian_program("promtool", "prometheus")


@dataclass
class Prometheus:
    """Seen through its API. ``log`` is for tests that fail."""

    url: str
    log: Path

    def alerts(self) -> list[dict[str, Any]]:
        alerts: list[dict[str, Any]] = self._get("alerts")["alerts"]
        return alerts

    def rules(self) -> list[dict[str, Any]]:
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def names(self) -> set[str]:
        """Every metric that it has seen."""
        return set(self._get("label/__name__/values"))

    def query(self, expression: str) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._get("query", query=expression)["result"]
        return result

    def query_range(self, expression: str, began: float, ended: float, step: float) -> list[dict[str, Any]]:
        result: list[dict[str, Any]] = self._get(
            "query_range", query=expression, start=began, end=ended, step=step
        )["result"]
        return result

    def _get(self, path: str, **parameters: Any) -> Any:
        said = json.loads(ask(f"{self.url}/api/v1/{path}?{urlencode(parameters)}"))
        assert said["status"] == "success", said
        return said["data"]


def in_a_hurry(rules: Path, seconds: str = "1s") -> str:
    """The same rules; only that an alert fires after seconds where it waits for minutes."""
    text = yaml.safe_load(rules.read_text())
    for group in text["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = seconds
    return yaml.safe_dump(text)


@contextlib.contextmanager
def a_victoria_metrics(folder: Path, admin: str, *, interval: str = "200ms") -> Iterator[Prometheus]:
    """VictoriaMetrics, which scrapes the admin listener with this URL and has Prometheus' API."""
    config = scraping(admin, {"scrape_interval": interval, "scrape_timeout": interval})
    (folder / "scrape.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = [
        debian_program("victoria-metrics", "victoria-metrics"),
        f"-promscrape.config={folder / 'scrape.yml'}",
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr={address}",
        "-search.latencyOffset=0s",
    ]
    with serving(folder, command, f"http://{address}", "/health") as victoria:
        yield victoria


@contextlib.contextmanager
def a_prometheus(
    folder: Path, admin: str, *, interval: str = "200ms", rules: str | None = None
) -> Iterator[Prometheus]:
    """Scrapes the admin listener with this URL. ``rules``: those of the repository, in a hurry."""
    (folder / "rules.yml").write_text(rules or in_a_hurry(RULES))
    config = scraping(
        admin, {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval}
    )
    (folder / "prometheus.yml").write_text(yaml.safe_dump({**config, "rule_files": ["rules.yml"]}))
    address = f"127.0.0.1:{free_port()}"
    command = [
        debian_program("prometheus", "prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with serving(folder, command, f"http://{address}", "/-/ready") as prometheus:
        yield prometheus


def scraping(admin: str, intervals: dict[str, str]) -> dict[str, Any]:
    """The configuration to scrape one daemon."""
    job = {"job_name": "forwarder", "static_configs": [{"targets": [admin.removeprefix("http://")]}]}
    return {"global": intervals, "scrape_configs": [job]}


@contextlib.contextmanager
def serving(folder: Path, command: list[str], url: str, ready: str) -> Iterator[Prometheus]:
    """It runs until the end of the block; its ``data`` in the folder is removed."""
    log = folder / f"{Path(command[0]).name}.log"
    try:
        with running(command, url + ready, log):
            yield Prometheus(url, log)
    finally:
        shutil.rmtree(folder / "data", ignore_errors=True)
