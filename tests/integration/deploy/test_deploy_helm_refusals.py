"""Wrong values are refused with a sentence that names them."""

import pytest
from deploy_helm import CHART, HELM, REASON, helm

pytestmark = pytest.mark.skipif(HELM is None, reason=REASON)

ENOUGH = ("image.registry=r.example.com/t", "nats.url=nats://nats:4222")
BROKER = ("ingestMqtt.enabled=true", "ingestMqtt.host=broker")


def said_of(*settings: str, enough: tuple[str, ...] = ENOUGH) -> str:
    """What Helm says when it refuses; the last one given of a value holds."""
    given = [part for setting in (*enough, *settings) for part in ("--set", setting)]
    done = helm("template", "prod", str(CHART), *given)
    assert done.returncode != 0, "accepted"
    return done.stderr


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("router.replica=3", "'replica'"),
        ("delivery.workers=3", "'workers'"),
        ("netPolicy.enabled=true", "'netPolicy'"),
        ("delivery.replicas=0", "/delivery/replicas"),
        ("delivery.replicas=26", "/delivery/replicas"),
        ("router.replicas=two", "/router/replicas"),
        ("ingest.autoscaling.targetCpuPercent=700", "/ingest/autoscaling/targetCpuPercent"),
        ("logLevel=verbose", "/logLevel"),
        ("traceRatio=2", "/traceRatio"),
        ("nats.url=nats", "/nats/url"),
        ("nats.url=nats://someone:secret@nats:4222", "/nats/url"),
        ("nats.streamReplicas=2", "/nats/streamReplicas"),
        ("delivery.egressAllow={10.0.0.1}", "/delivery/egressAllow/0"),
        ("ingestMqtt.protocol=4", "/ingestMqtt/protocol"),
        ("secrets.ingest=pass word", "/secrets/ingest"),
        ("extraEnv[0].name=PULSE_NATS_PASSWORD", "/extraEnv/0/name"),
        ("extraEnv[0].name=DELIVERY_WORKER_COUNT", "/extraEnv/0/name"),
        ("serviceMonitor.interval=15", "/serviceMonitor/interval"),
        ("networkPolicy.webhookPorts={}", "/networkPolicy/webhookPorts"),
    ],
)
def test_the_schema_names_the_value(setting: str, named: str) -> None:
    assert named in said_of(setting)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("image.registry=",), "image.registry is not set: name the registry"),
        (("nats.url=",), "nats.url is not set: say where the NATS servers are"),
        (("ingestMqtt.enabled=true",), "ingestMqtt.host is not set"),
        ((*BROKER, "ingestMqtt.replicas=2"), "each replica would receive, and store, every message"),
        (
            (*BROKER, "ingestMqtt.shareGroup=g", "ingestMqtt.protocol=3.1.1"),
            'ingestMqtt.shareGroup needs ingestMqtt.protocol "5", not "3.1.1"',
        ),
        (("router.autoscaling.enabled=true",), "although router.autoscaling.enabled is true: KEDA asks Prometheus"),
        (
            ("ingest.autoscaling.enabled=true", "ingest.autoscaling.minReplicas=9"),
            "ingest.autoscaling.minReplicas is 9, more than maxReplicas, which is 8",
        ),
        (
            ("delivery.drainSeconds=40",),
            "delivery.terminationGracePeriodSeconds is 45, not more than the 52 s that an orderly stop may take",
        ),
        (("ingest.terminationGracePeriodSeconds=20",), "ingest.terminationGracePeriodSeconds is 20, not more than"),
        (("router.terminationGracePeriodSeconds=5",), "router.terminationGracePeriodSeconds is 5, not more than"),
    ],
)
def test_what_does_not_fit_together_is_explained(settings: tuple[str, ...], sentence: str) -> None:
    assert sentence in said_of(*settings)
