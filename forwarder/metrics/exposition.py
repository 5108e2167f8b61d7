"""The numbers as Prometheus reads them: one Collector, which groups samples under the table's families."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from forwarder.metrics.families import FAMILIES, PREFIX, SINCE_FIRST, Family
from forwarder.metrics.numbers import Histogram, Sample, Value


class Exposition(Collector):
    """``samples`` is asked at every scrape; families come in the table's order."""

    def __init__(self, samples: Callable[[], Iterable[Sample]]) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        by_family: dict[str, list[tuple[Sequence[str], Value]]] = {family.name: [] for family in FAMILIES}
        for name, labels, value in self._samples():
            if _is_shown(name, labels, value):
                by_family[name].append((labels, value))
        for family in FAMILIES:
            if rows := by_family[family.name]:
                yield _family(family, rows)


def _is_shown(name: str, labels: Sequence[str], value: Value) -> bool:
    if name not in SINCE_FIRST:
        return True
    number = value.count if isinstance(value, Histogram) else value
    return number != 0 or labels[-1] in SINCE_FIRST[name]


def _family(family: Family, rows: Sequence[tuple[Sequence[str], Value]]) -> Metric:
    name, labels = PREFIX + family.name, family.labels
    if family.type == "summary":
        summaries = SummaryMetricFamily(name, family.help, labels=labels)
        for values, value in rows:
            if isinstance(value, Histogram):
                summaries.add_metric(values, value.count, value.sum)
        return summaries
    if family.type == "histogram":
        histograms = HistogramMetricFamily(name, family.help, labels=labels)
        for values, value in rows:
            if isinstance(value, Histogram):
                histograms.add_metric(values, value.cumulative(), value.sum)
        return histograms
    make = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    numbers = make(name, family.help, labels=labels)
    for values, value in rows:
        if not isinstance(value, Histogram):
            numbers.add_metric(values, value)
    return numbers
