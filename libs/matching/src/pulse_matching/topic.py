"""Topic filters of MQTT 3.1.1 §4.7: which topics a filter selects.

| filter          | matches                              | does not match        |
|-----------------|--------------------------------------|-----------------------|
| ``sport/#``     | ``sport``, ``sport/``, ``sport/a/b`` | ``sports``            |
| ``sport/+``     | ``sport/``, ``sport/a``              | ``sport``             |
| ``+/+``         | ``/``, ``/finance``                  | ``finance``           |
| ``#``, ``+/x``  | ``a/x``                              | ``$SYS/x``            |
| ``$SYS/#``      | ``$SYS``, ``$SYS/x``                 | ``SYS``               |
"""

from functools import lru_cache
from typing import Final

MAX_FILTER_BYTES: Final = 65_535
"""The longest string that MQTT can carry."""

_WILDCARDS: Final = ("+", "#")


class InvalidTopicFilter(ValueError):
    """A text that is no topic filter, or one of a shared subscription."""

    def __init__(self, topic_filter: str, reason: str) -> None:
        self.topic_filter = topic_filter
        self.reason = reason
        super().__init__(f"topic filter: {reason}")


def matches(topic_filter: str, topic: str) -> bool:
    """Tell whether *topic_filter* selects *topic*.

    Raises `InvalidTopicFilter` for a bad filter, whatever the topic. A topic that no client may publish to (a wildcard
    or NUL in it, or nothing) matches nothing. Levels are compared code point by code point: no case folding, no Unicode
    normalisation.
    """
    wanted = filter_levels(topic_filter)
    return is_topic_name(topic) and _levels_match(wanted, topic.split("/"))


def check_topic_filter(topic_filter: str) -> None:
    """Accept *topic_filter* silently, or raise `InvalidTopicFilter` naming what is wrong with it."""
    filter_levels(topic_filter)


@lru_cache(maxsize=4096)
def filter_levels(topic_filter: str) -> tuple[str, ...]:
    """Split a filter into its levels; raises `InvalidTopicFilter`."""
    reason = _fault(topic_filter)
    if reason is not None:
        raise InvalidTopicFilter(topic_filter, reason)
    return tuple(topic_filter.split("/"))


def is_topic_name(topic: str) -> bool:
    """Tell whether a message may have been published to *topic*."""
    return bool(topic) and not any(char in topic for char in "+#\0")


def _fault(topic_filter: str) -> str | None:  # noqa: PLR0911 - one return for each reason
    """Return the first reason why *topic_filter* cannot be used."""
    try:
        size_bytes = len(topic_filter.encode())
    except UnicodeEncodeError:
        return "is not well-formed unicode"
    if not 0 < size_bytes <= MAX_FILTER_BYTES:
        return f"must be 1 to {MAX_FILTER_BYTES} bytes long"
    if "\0" in topic_filter:
        return "contains NUL"
    levels = topic_filter.split("/")
    if levels[0] == "$share":
        return "a shared subscription cannot be routed"
    if "#" in "".join(levels[:-1]) or ("#" in levels[-1] and levels[-1] != "#"):
        return "# must stand alone as the last level"
    if any("+" in level and level != "+" for level in levels):
        return "+ must stand alone in its level"
    return None


def _levels_match(wanted: tuple[str, ...], levels: list[str]) -> bool:
    if levels[0].startswith("$") and wanted[0] in _WILDCARDS:
        return False
    if wanted[-1] == "#":
        # "sport/#" includes the parent "sport": the # itself needs no level.
        wanted = wanted[:-1]
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(want in ("+", level) for want, level in zip(wanted, levels, strict=True))
