"""Which of many topic filters select a topic, at a cost that follows the matches."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from pulse_matching.topic import filter_levels, is_topic_name

T = TypeVar("T")


class _Node(Generic[T]):
    """The filters that share the levels on the way here, each value with its place in the order given."""

    __slots__ = ("below", "children", "here")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        """By level; ``+`` is a key like others, for no topic has a level ``+``."""
        self.here: list[tuple[int, T]] = []
        """Values of filters that end here."""
        self.below: list[tuple[int, T]] = []
        """Values of filters that end in ``#`` below here."""


class TopicIndex(Generic[T]):
    """A trie of levels over the topic filters of one tenant. It does not change once built.

    Raises `InvalidTopicFilter` while it is built. A lookup visits only nodes whose filters agree with the topic so far;
    routes that differ in an early level cost nothing.
    """

    __slots__ = ("_root", "_size")

    def __init__(self, items: Iterable[tuple[str, T]]) -> None:
        self._root: _Node[T] = _Node()
        self._size = 0
        for topic_filter, value in items:
            self._insert(filter_levels(topic_filter), (self._size, value))
            self._size += 1

    def __len__(self) -> int:
        return self._size

    def lookup(self, topic: str) -> list[T]:
        """Return the values whose filters select *topic*, in the order they were given; never raises."""
        if not is_topic_name(topic):
            return []
        levels = topic.split("/")
        found: list[tuple[int, T]] = []
        nodes = [self._root]
        for depth, level in enumerate(levels):
            # MQTT-4.7.2-1: a leading wildcard does not see topics of the server.
            wild = depth > 0 or not level.startswith("$")
            nodes = _step(nodes, level, found, wild=wild)
        for node in nodes:
            found += node.here
            found += node.below
        return [value for _, value in sorted(found, key=_place)]

    def _insert(self, levels: tuple[str, ...], entry: tuple[int, T]) -> None:
        node = self._root
        for level in levels:
            if level == "#":
                node.below.append(entry)
                return
            node = node.children.setdefault(level, _Node())
        node.here.append(entry)


def _step(nodes: list[_Node[T]], level: str, found: list[tuple[int, T]], *, wild: bool) -> list[_Node[T]]:
    """Go one level down from *nodes*, adding to *found* what a ``#`` selects on the way."""
    keys = (level, "+") if wild else (level,)
    if wild:
        for node in nodes:
            found += node.below
    return [node.children[key] for node in nodes for key in keys if key in node.children]


def _place(entry: tuple[int, T]) -> int:
    return entry[0]
