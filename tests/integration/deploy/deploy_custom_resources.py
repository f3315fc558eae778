"""Schemas of the custom resources that the chart makes: only the part that it uses, closed, after their documentation.

* KEDA 2.17: https://keda.sh/docs/2.17/reference/scaledobject-spec/ and /docs/2.17/scalers/prometheus/
* Prometheus Operator: https://prometheus-operator.dev/docs/api-reference/api/
"""

from typing import Any, Final

_STRINGS: Final = {"type": "object", "additionalProperties": {"type": "string"}}


def _closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _resource(api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = _closed(["name", "labels"], name={"type": "string"}, labels=_STRINGS)
    return _closed(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": api_version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


_COUNT: Final = {"type": "integer", "minimum": 1}
# All members of a trigger's metadata are text, numbers and booleans too.
_PROMETHEUS: Final = _closed(
    ["serverAddress", "query", "threshold"],
    serverAddress={"type": "string", "pattern": "^https?://"},
    query={"type": "string", "minLength": 1},
    threshold={"type": "string", "pattern": "^[0-9.]+$"},
    ignoreNullValues={"enum": ["true", "false"]},
)
SCALED_OBJECT: Final = _resource(
    "keda.sh/v1alpha1",
    "ScaledObject",
    _closed(
        ["scaleTargetRef", "triggers"],
        scaleTargetRef=_closed(["name"], name={"type": "string"}),
        pollingInterval=_COUNT,
        minReplicaCount=_COUNT,
        maxReplicaCount=_COUNT,
        fallback=_closed(
            ["failureThreshold", "replicas"],
            failureThreshold=_COUNT,
            replicas=_COUNT,
            behavior={"enum": ["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"]},
        ),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": _closed(["type", "metadata"], type={"const": "prometheus"}, metadata=_PROMETHEUS),
        },
    ),
)
_RELABELING: Final = _closed(
    ["targetLabel"], sourceLabels={"type": "array", "items": {"type": "string"}}, targetLabel={"type": "string"}
)
SERVICE_MONITOR: Final = _resource(
    "monitoring.coreos.com/v1",
    "ServiceMonitor",
    _closed(
        ["selector", "endpoints"],
        selector=_closed(["matchLabels"], matchLabels=_STRINGS),
        endpoints={
            "type": "array",
            "items": _closed(
                ["port"],
                port={"type": "string"},
                interval={"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                relabelings={"type": "array", "items": _RELABELING},
            ),
        },
    ),
)
SCHEMAS: Final = {"ScaledObject": SCALED_OBJECT, "ServiceMonitor": SERVICE_MONITOR}
