import subprocess
import sys

import pytest
from delivery_builders import ACME

from pulse_contracts.kinds import MASK, InvalidConfig, installed_kinds

KINDS = installed_kinds()
IMPORTS = """
import sys
before = set(sys.modules)
import {module}
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_the_four_kinds_are_installed() -> None:
    assert list(KINDS) == ["mqtt_republish", "nats", "postgresql", "webhook"]


@pytest.mark.parametrize("kind", ["webhook", "mqtt_republish", "nats", "postgresql"])
def test_a_descriptor_imports_the_standard_library_and_the_contracts_only(kind: str) -> None:
    module = f"pulse_delivery.kinds.{kind}.descriptor"
    script = IMPORTS.format(module=module)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20)
    own = {module[:end] for end in _dots(module)} | {module}
    foreign = [
        name
        for name in done.stdout.split()
        if name not in own and name.partition(".")[0] not in {*sys.stdlib_module_names, "pulse_contracts"}
    ]
    assert foreign == []


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("webhook", {"url": "https://example.com/hook"}),
        ("webhook", {"url": "https://example.com", "headers": {}, "signature_256": True}),
        ("webhook", {"url": "https://example.com", "headers": {"a": "b"}, "secret_headers": {"c": "d"}}),
        ("mqtt_republish", {"topic": "tenant/acme/copy"}),
        ("nats", {"subject": "orders"}),
        ("nats", {"subject": "a.b.c.d.e.f.g.h"}),
        ("postgresql", {}),
    ],
)
def test_a_complete_configuration_is_taken(kind: str, config: dict[str, object]) -> None:
    KINDS[kind].check_config(ACME, config)


@pytest.mark.parametrize(
    ("kind", "config", "field"),
    [
        ("webhook", {}, "url"),
        ("webhook", {"url": ""}, "url"),
        ("webhook", {"url": None}, "url"),
        ("webhook", {"url": 5}, "url"),
        ("webhook", {"url": ["https://example.com"]}, "url"),
        ("webhook", {"url": "https://example.com", "headers": []}, "headers"),
        ("webhook", {"url": "https://example.com", "headers": {"a": 1}}, "headers"),
        ("webhook", {"url": "https://example.com", "secret_headers": "x"}, "secret_headers"),
        ("webhook", {"url": "https://example.com", "secret_headers": {"a": None}}, "secret_headers"),
        ("webhook", {"url": "https://example.com", "signature_256": "yes"}, "signature_256"),
        ("webhook", {"url": "https://example.com", "signing": ["whsec_mine"]}, "signing"),
        ("webhook", {"url": "https://example.com", "URL": "x"}, "URL"),
        ("mqtt_republish", {}, "topic"),
        ("mqtt_republish", {"topic": 5}, "topic"),
        ("mqtt_republish", {"topic": "tenant/acme/x", "qos": 0}, "qos"),
        ("nats", {}, "subject"),
        ("nats", {"subject": 1}, "subject"),
        ("nats", {"subject": "a..b"}, "subject"),
        ("nats", {"subject": ".a"}, "subject"),
        ("nats", {"subject": "a."}, "subject"),
        ("nats", {"subject": "a.*"}, "subject"),
        ("nats", {"subject": "a.>"}, "subject"),
        ("nats", {"subject": "a b"}, "subject"),
        ("nats", {"subject": "a\n"}, "subject"),
        ("nats", {"subject": "$JS.API"}, "subject"),
        ("nats", {"subject": "é"}, "subject"),
        ("nats", {"subject": "a.b.c.d.e.f.g.h.i"}, "subject"),
        ("nats", {"subject": "a" * 65}, "subject"),
        ("postgresql", {"table": "telemetry"}, "table"),
    ],
)
def test_a_refusal_names_the_field(kind: str, config: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        KINDS[kind].check_config(ACME, config)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"config.{field}: ")


def test_secrets_are_masked_wherever_a_configuration_is_shown() -> None:
    config = {"url": "https://example.com", "headers": {"a": "b"}, "secret_headers": {"authorization": "canary"}}
    shown = KINDS["webhook"].masked(config)
    assert shown == {**config, "secret_headers": MASK}


def test_only_webhooks_sign_and_only_postgresql_emits_nothing() -> None:
    assert [name for name, kind in KINDS.items() if kind.signs] == ["webhook"]
    assert [name for name, kind in KINDS.items() if not kind.emits] == ["postgresql"]


def _dots(text: str) -> list[int]:
    return [index for index, char in enumerate(text) if char == "."]
