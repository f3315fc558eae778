"""Expressions in CEL, the alternative to payload filters: compiled, typed and bounded.

Variables: ``payload`` (the object), ``metrics`` (its member of that name, or empty), ``topic``, ``device_id`` and
``type`` (strings). Numbers compare across integer and float where a payload's value takes part. Macros: ``has``,
``all``, ``exists``, ``exists_one``; `pulse_matching.cost` says why ``map`` and ``filter`` are missing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cel_expr_python import cel

from pulse_matching.cost import MAX_PAYLOAD_DEPTH, MAX_WORK, cost_model, is_shallow
from pulse_matching.values import is_array, is_object

MAX_EXPRESSION_BYTES: Final = 4096
_MAX_REASON_CHARS: Final = 300

_CONFIG: Final = """
container: message
stdlib:
  exclude_macros: [map, filter]
variables:
- {name: payload, type_name: map, params: [{type_name: string}, {type_name: dyn}]}
- {name: metrics, type_name: map, params: [{type_name: string}, {type_name: dyn}]}
- {name: topic, type_name: string}
- {name: device_id, type_name: string}
- {name: message.type, type_name: string}
"""
"""``type`` is a name of CEL's own; inside the container ``message`` ours, ``message.type``, is found before it."""

_ENV: Final = cel.NewEnv(config=cel.NewEnvConfigFromYaml(_CONFIG))

_MISSING: Final = "NOT_FOUND:"
_SAFE_REASONS: Final = ("No matching overloads found", "Index error", "divide by zero", "modulus by zero", "overflow")
"""What these say names types and positions only; other errors may quote a payload."""

_REFUSED_MACRO: Final = re.compile(r"\b(?:map|filter)\s*\(")

_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**64 - 1


class InvalidExpression(ValueError):
    """A text that is no expression, has a type error, or does not give a boolean."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"expression: {reason}")


class MatchError(Exception):
    """An expression that could not be decided for a message. Its reason quotes no payload."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What an expression may look at."""

    payload: Mapping[str, object]
    topic: str
    device_id: str
    type: str


MessagePredicate: TypeAlias = Callable[[Message], bool]


def compile_expression(text: str) -> MessagePredicate:
    """Return the predicate that *text* describes; raises `InvalidExpression`.

    The predicate raises `MatchError`, and nothing else, if evaluation fails, gives no boolean or would cost too much. A
    missing key is not a failure: the message does not match.
    """
    expression = _compile(text)
    cost = cost_model(text)

    def predicate(message: Message) -> bool:
        if not is_shallow(message.payload):
            raise MatchError(f"the payload is nested deeper than {MAX_PAYLOAD_DEPTH}")
        if not cost.is_linear and cost.work(message.payload) > MAX_WORK:
            raise MatchError("the payload is too large for this expression")
        return _decide(expression, message)

    return predicate


def _compile(text: str) -> cel.Expression:
    try:
        if len(text.encode()) > MAX_EXPRESSION_BYTES:
            raise InvalidExpression(f"longer than {MAX_EXPRESSION_BYTES} bytes")
        expression = _ENV.compile(text)
    except UnicodeEncodeError as exc:
        raise InvalidExpression("is not well-formed unicode") from exc
    except RuntimeError as exc:
        raise InvalidExpression(_explain(str(exc), text)) from exc
    result = expression.return_type()
    if result not in (cel.Type.BOOL, cel.Type.DYN):
        raise InvalidExpression(f"gives {result.name().lower()}, must give bool")
    return expression


def _decide(expression: cel.Expression, message: Message) -> bool:
    result = _evaluate(expression, message, message.payload)
    if result.type() == cel.Type.ERROR and not _fits(message.payload):
        # The engine refuses a payload for one integer beyond 64 bits, even one that the expression does not look at.
        result = _evaluate(expression, message, {name: _narrow(value) for name, value in message.payload.items()})
    value: object = result.value()
    if isinstance(value, bool):
        return value
    if result.type() != cel.Type.ERROR:
        raise MatchError(f"gave {result.type().name().lower()}, must give bool")
    if str(value).startswith(_MISSING):
        return False
    raise MatchError(_public(str(value)))


def _evaluate(expression: cel.Expression, message: Message, payload: Mapping[str, object]) -> cel.Value:
    metrics = payload.get("metrics")
    variables: dict[str, object] = {
        "payload": dict(payload),
        "metrics": dict(metrics) if is_object(metrics) else {},
        "topic": message.topic,
        "device_id": message.device_id,
        "message.type": message.type,
    }
    try:
        return expression.eval(data=variables)
    except (RuntimeError, TypeError, ValueError) as exc:
        raise MatchError(_public(str(exc))) from None


def _fits(value: object) -> bool:
    """Tell whether every integer in *value* is one that CEL can hold."""
    rest = [value]
    while rest:
        item = rest.pop()
        if is_object(item):
            rest += item.values()
        elif is_array(item):
            rest += item
        elif isinstance(item, int) and not _SMALLEST <= item <= _LARGEST:
            return False
    return True


def _narrow(value: object) -> object:
    """Return *value* with integers beyond 64 bits as floats, which is how most of JSON's readers see them."""
    if is_object(value):
        return {name: _narrow(item) for name, item in value.items()}
    if is_array(value):
        return [_narrow(item) for item in value]
    if isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        return _as_float(value)
    return value


def _as_float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _explain(error: str, text: str) -> str:
    """Keep the first line of the compiler's message: ``1:7: found no matching overload ...``."""
    line = error.splitlines()[0].rpartition("ERROR: <input>:")[2].partition(" (in container")[0]
    # Without its macro, x.map(v, f) reads as a call with an unknown v, which tells a tenant nothing.
    hint = "; map and filter are not offered" if _REFUSED_MACRO.search(text) else ""
    return line.removesuffix(" [INVALID_ARGUMENT]")[:_MAX_REASON_CHARS] + hint


def _public(error: str) -> str:
    """Return what may be logged of an evaluation error."""
    if "Iteration budget exceeded" in error:
        return "iteration budget exceeded"
    if any(reason in error for reason in _SAFE_REASONS):
        return error.partition(": ")[2][:_MAX_REASON_CHARS].lower()
    return f"evaluation failed ({error.partition(':')[0].lower()[:40]})"
