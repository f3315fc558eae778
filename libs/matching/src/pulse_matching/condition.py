"""The condition of a route, whichever way it is written."""

from collections.abc import Mapping

from pulse_matching.expression import MessagePredicate, compile_expression
from pulse_matching.payload import compile_filter


def compile_condition(*, payload_filter: Mapping[str, object] | str | None, expression: str | None) -> MessagePredicate:
    """Return one predicate for a route's payload filter and its expression; where both are given, both must hold.

    Raises `InvalidPayloadFilter` or `InvalidExpression`. Only a condition with an expression may raise `MatchError`.
    """
    holds = compile_filter(payload_filter)
    if expression is None:
        return lambda message: holds(message.payload)
    decides = compile_expression(expression)
    return lambda message: holds(message.payload) and decides(message)
