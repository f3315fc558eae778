"""nats-server's configuration as text: pure, and free of injection because every value is quoted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pulse_cli.embedded.ports import Endpoint

ACCOUNT = "PULSE"
SYSTEM_ACCOUNT = "SYS"
SYSTEM_USER = "sys"
USERS_FILE = "users.conf"

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsUser:
    """A service's login with everything it may do; what is not listed is denied, also if nothing is listed."""

    name: str
    password: str = field(repr=False)
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    allow_responses: bool = False
    """May answer any request it receives, once and within two minutes."""
    connection_types: tuple[str, ...] = ("STANDARD",)
    """`STANDARD` for NATS clients, `MQTT` for MQTT clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttLogin:
    """A device's login; like NatsUser, but only over MQTT and with a hashed password.

    Permissions are NATS subjects: a topic's `/` is `.`, and a `.` inside a level is `//`.
    """

    user: str
    bcrypt: str = field(repr=False)
    """Of the least cost, 4: tokens are random, so a slow hash protects nothing, and each reload checks all again."""
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsConfig:
    """Everything but the users, who stand in an included file because they change while the server runs."""

    server_name: str
    """Must not change with the data: the names of MQTT's own consumers derive from it."""
    client: Endpoint
    monitor: Endpoint
    mqtt: Endpoint
    store: Path
    pid_file: Path
    system_password: str = field(repr=False)
    max_file_bytes: int = 16 * 1024 * _MIB
    max_memory_bytes: int = 256 * _MIB
    max_payload_bytes: int = _MIB
    sync_always: bool = True
    """False leaves fsync to the default interval, for tests that lose nothing of value."""
    mqtt_ack_wait: timedelta = timedelta(seconds=5)
    """After it an unacknowledged QoS 1 message is sent again, and *only* after it: a reconnect does not hasten it."""
    mqtt_max_ack_pending: int = 1024
    """A subscription. A client's subscriptions share 65,535, and one that ends in `#` counts twice."""


def render(config: NatsConfig) -> str:
    """The main file; it includes `users.conf` from its own folder."""
    sync_interval = "always" if config.sync_always else "2m"
    return f"""\
server_name: {_quoted(config.server_name)}
listen: {_quoted(_address(config.client))}
http: {_quoted(_address(config.monitor))}
pid_file: {_quoted(str(config.pid_file))}
max_payload: {config.max_payload_bytes}
jetstream {{
  store_dir: {_quoted(str(config.store))}
  max_file: {config.max_file_bytes}
  max_mem: {config.max_memory_bytes}
  sync_interval: {_quoted(sync_interval)}
  strict: true
}}
# nats-py's ordered consumers do not understand the second version.
feature_flags {{ js_ack_fc_v2: false }}
mqtt {{
  listen: {_quoted(_address(config.mqtt))}
  ack_wait: {_quoted(f"{config.mqtt_ack_wait.total_seconds():g}s")}
  max_ack_pending: {config.mqtt_max_ack_pending}
}}
accounts {{
  {ACCOUNT} {{
    jetstream: enabled
    # Only for messages whose traceparent is sampled, which none is unless PULSE_TRACE_RATIO is set.
    msg_trace: {{ dest: "hops", sampling: "100%" }}
    include {_quoted(USERS_FILE)}
  }}
  {SYSTEM_ACCOUNT} {{ users: [ {{ user: {_quoted(SYSTEM_USER)}, password: {_quoted(config.system_password)} }} ] }}
}}
system_account: {SYSTEM_ACCOUNT}
"""


def render_users(users: Sequence[dict[str, Any]]) -> str:
    """The included file. nats-server allows one list of users an account, so services and devices share it."""
    lines = [f"  {_quoted(user)}" for user in users]
    return "users: [\n" + ",\n".join(lines) + "\n]\n"


def user_entry(user: NatsUser) -> dict[str, Any]:
    permissions = _permissions(user.publish, user.subscribe)
    return {
        "user": user.name,
        "password": user.password,
        "permissions": permissions | ({"allow_responses": True} if user.allow_responses else {}),
        "allowed_connection_types": list(user.connection_types),
    }


def login_entry(login: MqttLogin) -> dict[str, Any]:
    return {
        "user": login.user,
        "password": login.bcrypt,
        "permissions": _permissions(login.publish, login.subscribe),
        "allowed_connection_types": ["MQTT"],
    }


def _permissions(publish: Sequence[str], subscribe: Sequence[str]) -> dict[str, Any]:
    return {"publish": _only(publish), "subscribe": _only(subscribe)}


def _only(subjects: Sequence[str]) -> dict[str, list[str]]:
    # An empty `allow` would allow everything.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


def _address(endpoint: Endpoint) -> str:
    return f"{endpoint.host}:{endpoint.port}"


def _quoted(value: object) -> str:
    """As JSON, which nats-server reads, apart from the escapes of control characters."""
    text = json.dumps(value, ensure_ascii=False)
    if "\\u" in text or "\\b" in text or "\\f" in text:
        raise ValueError(
            "control characters and backslashes before u, b or f cannot stand in nats-server's configuration"
        )
    return text
