"""How a metric is declared: once, as a class attribute that is typed as the metric on the instances.

class RouterMetrics(MetricSet):
    matches = CounterSpec("pulse_router_matches_total", "Deliveries that the routes asked for.")

RouterMetrics.matches            # the spec: name, help, labels; what the reference page is made of
RouterMetrics(registry).matches  # the counter: .inc()
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self, overload

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

OPEN: Final[tuple[str, ...]] = ()
"""In the place of a label's values: bounded, but only known at run time."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""For what should take milliseconds."""
LONG_SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    3600.0,
    86400.0,
)
"""For what may wait in a stream: up to the age at which a message is dead-lettered."""
BATCH_SIZES: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
"""Up to the largest atomic batch."""


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """What is known about a metric before it exists."""

    name: str
    help: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Label names with their values; series of closed labels exist from the start, so that a rate has a beginning."""
    kind: ClassVar[str]

    def series(self) -> Iterator[dict[str, str]]:
        """Every series that can be named in advance; none if a label is open or there are no labels."""
        if self.labels and all(self.labels.values()):
            for values in itertools.product(*self.labels.values()):
                yield dict(zip(self.labels, values, strict=True))


@dataclass(frozen=True, slots=True)
class CounterSpec(MetricSpec):
    """Only goes up; the name ends in `_total`."""

    kind: ClassVar[str] = "counter"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Counter: ...
    def __get__(self, instance: object | None, owner: type) -> Self | Counter:
        return self

    def make(self, registry: CollectorRegistry) -> Counter:
        return Counter(self.name, self.help, list(self.labels), registry=registry)


@dataclass(frozen=True, slots=True)
class GaugeSpec(MetricSpec):
    """Goes up and down."""

    kind: ClassVar[str] = "gauge"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Gauge: ...
    def __get__(self, instance: object | None, owner: type) -> Self | Gauge:
        return self

    def make(self, registry: CollectorRegistry) -> Gauge:
        return Gauge(self.name, self.help, list(self.labels), registry=registry)


@dataclass(frozen=True, slots=True)
class HistogramSpec(MetricSpec):
    """A distribution in fixed buckets."""

    buckets: tuple[float, ...] = SECONDS
    kind: ClassVar[str] = "histogram"

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Histogram: ...
    def __get__(self, instance: object | None, owner: type) -> Self | Histogram:
        return self

    def make(self, registry: CollectorRegistry) -> Histogram:
        return Histogram(self.name, self.help, list(self.labels), buckets=self.buckets, registry=registry)


class MetricSet:
    """The metrics of one concern, made on a registry; two sets of one class on one registry are refused by it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        for attribute, spec in specs_of(type(self)):
            metric = spec.make(registry)
            for labels in spec.series():
                metric.labels(**labels)
            # Specs are descriptors without a setter, so the instance's own attribute comes first: no call per access.
            self.__dict__[attribute] = metric


def specs_of(owner: type[MetricSet]) -> list[tuple[str, CounterSpec | GaugeSpec | HistogramSpec]]:
    """The specs of a set with their attribute names, in the order of declaration."""
    kinds = CounterSpec | GaugeSpec | HistogramSpec
    return [(name, value) for name, value in vars(owner).items() if isinstance(value, kinds)]
