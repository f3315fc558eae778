"""Wrong values are refused with a sentence that names them."""

import pytest
from support.chart import CHART, HELM, REASON, helm

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
    ("setting", "words"),
    [
        ("router.replica=3", "at '/router': additional properties 'replica' not allowed"),
        ("delivery.workers=3", "at '/delivery': additional properties 'workers' not allowed"),
        ("netPolicy.enabled=true", "additional properties 'netPolicy' not allowed"),
        ("delivery.replicas=0", "at '/delivery/replicas': minimum: got 0, want 1"),
        ("delivery.replicas=26", "at '/delivery/replicas': maximum: got 26, want 25"),
        ("router.replicas=two", "at '/router/replicas': got string, want integer"),
        (
            "ingest.autoscaling.targetCpuPercent=700",
            "at '/ingest/autoscaling/targetCpuPercent': maximum: got 700, want 100",
        ),
        ("logLevel=verbose", "at '/logLevel': value must be one of 'debug', 'info', 'warning', 'error'"),
        ("traceRatio=2", "at '/traceRatio': maximum: got 2, want 1"),
        ("nats.streamReplicas=2", "at '/nats/streamReplicas': value must be one of 1, 3, 5"),
        ("ingestMqtt.protocol=4", "at '/ingestMqtt/protocol': value must be one of '3.1.1', '5'"),
        ("bindAddress=10.0.0.1", "at '/bindAddress': value must be one of '0.0.0.0', '::'"),
        ("networkPolicy.webhookPorts=all", "at '/networkPolicy/webhookPorts': got string, want array"),
    ],
)
def test_the_schema_names_the_value_and_what_it_may_be(setting: str, words: str) -> None:
    assert words in said_of(setting)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("nats.url=nats", "nats.url is not a list of servers, as in nats://nats:4222"),
        ("nats.url=nats://someone:hunter2@nats:4222", "user and password do not belong into it"),
        ("image.registry=https://r.example.com", "without a scheme and a tag, as in registry.example.com/team"),
        ("delivery.egressAllow={10.0.0.1}", 'delivery.egressAllow[0] is "10.0.0.1", not a range of addresses'),
        ("networkPolicy.notPublic={ten}", 'networkPolicy.notPublic[0] is "ten", not a range of addresses'),
        ("secrets.ingest=hunter2 hunter2", "secrets.ingest is not what a Secret can be called"),
        ("image.pullSecrets={hunter2 hunter2}", "image.pullSecrets[0] is not what a Secret can be called"),
        ("extraEnv[0].name=PULSE_NATS_PASSWORD", "extraEnv[0].name is PULSE_NATS_PASSWORD: Pulse's own variables are"),
        ("extraEnv[0].name=DELIVERY_WORKER_COUNT", "extraEnv[0].name is DELIVERY_WORKER_COUNT: Pulse's own variables"),
        ("serviceMonitor.interval=15", "serviceMonitor.interval is 15: give a number and its unit (ms, s or m)"),
        ("otlpEndpoint=collector:4318", 'otlpEndpoint is "collector:4318", not an address, as in http://host:4318'),
        ("keda.prometheusAddress=prometheus", 'keda.prometheusAddress is "prometheus", not an address'),
        ("ingestMqtt.shareGroup=a/b", 'ingestMqtt.shareGroup is "a/b": the name of a group has no /, + and #'),
    ],
)
def test_a_wrong_form_is_explained_and_no_secret_repeated(setting: str, sentence: str) -> None:
    said = said_of(setting)
    assert sentence in said
    assert "hunter2" not in said


def test_the_schema_has_no_pattern_which_would_be_its_whole_answer() -> None:
    schema = (CHART / "values.schema.json").read_text()
    assert [word for word in ('"pattern"', '"not"', '"anyOf"', '"oneOf"') if word in schema] == []


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
            "delivery.terminationGracePeriodSeconds is 45, not more than the 54 s that an orderly stop may take",
        ),
        (("ingest.terminationGracePeriodSeconds=20",), "ingest.terminationGracePeriodSeconds is 20, not more than"),
        (("router.terminationGracePeriodSeconds=5",), "router.terminationGracePeriodSeconds is 5, not more than"),
    ],
)
def test_what_does_not_fit_together_is_explained(settings: tuple[str, ...], sentence: str) -> None:
    assert sentence in said_of(*settings)
