import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from pulse_cli.embedded.nats import nats_server_binary
from pulse_cli.embedded.nats_config import (
    MqttLogin,
    NatsConfig,
    NatsUser,
    login_entry,
    render,
    render_users,
    user_entry,
)
from pulse_cli.embedded.ports import Endpoint

HASH = "$2b$04$Sijj6p7qZKe93qkHi6k11uiJVKXBet8FvlqdFtCaGo8kMoEPqwqC2"


def config(folder: Path) -> NatsConfig:
    return NatsConfig(
        server_name="pulse-test",
        client=Endpoint(port=24222),
        monitor=Endpoint(port=28222),
        mqtt=Endpoint(port=21883),
        store=folder / "jetstream",
        pid_file=folder / "nats.pid",
        system_password='$PATH "quoted" \\ #',
        mqtt_ack_wait=timedelta(seconds=2.5),
    )


def verdict(folder: Path) -> str:
    """What `nats-server -t` says about the configuration in the folder."""
    argv = [str(nats_server_binary()), "-t", "-c", str(folder / "nats-server.conf")]
    return subprocess.run(argv, check=False, capture_output=True, text=True).stderr


def test_the_server_accepts_the_rendered_configuration(tmp_path: Path) -> None:
    users = [
        user_entry(NatsUser(name="ingest", password='a"b\\c$d', publish=("telemetry.>",), subscribe=("_INBOX.i.>",))),
        user_entry(NatsUser(name="router", password="x", allow_responses=True)),
        login_entry(MqttLogin(user="acme/d.1", bcrypt=HASH, publish=("tenant.acme.device.d//1.>",))),
    ]
    (tmp_path / "nats-server.conf").write_text(render(config(tmp_path)))
    (tmp_path / "users.conf").write_text(render_users(users))
    assert "is valid" in verdict(tmp_path)


def test_an_account_without_users_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "nats-server.conf").write_text(render(config(tmp_path)))
    (tmp_path / "users.conf").write_text(render_users([]))
    assert "is valid" in verdict(tmp_path)


def test_a_user_without_permissions_may_do_nothing() -> None:
    permissions = user_entry(NatsUser(name="idle", password="x"))["permissions"]
    assert permissions == {"publish": {"deny": [">"]}, "subscribe": {"deny": [">"]}}


def test_a_device_may_connect_over_mqtt_only() -> None:
    assert login_entry(MqttLogin(user="acme/d1", bcrypt=HASH))["allowed_connection_types"] == ["MQTT"]


@pytest.mark.parametrize("name", ["bell\a", "form\f", "back\b", "nul\0"])
def test_a_name_with_a_control_character_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        render_users([user_entry(NatsUser(name=name, password="x"))])


def test_passwords_do_not_appear_in_representations(tmp_path: Path) -> None:
    shown = repr([NatsUser(name="a", password="hush"), MqttLogin(user="b", bcrypt="hush"), config(tmp_path)])
    assert "hush" not in shown
    assert "quoted" not in shown
