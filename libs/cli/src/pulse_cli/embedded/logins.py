"""Brings the logins of the embedded MQTT listener in step with the database."""

from pulse_cli.embedded.folder import DataFolder
from pulse_cli.embedded.nats import reload, server_pid, write_mqtt_logins
from pulse_cli.embedded.nats_config import MqttLogin
from pulse_cli.embedded.ports import Endpoint
from pulse_control.context import Control
from pulse_control.mqtt_logins import BrokerLogin, broker_logins


async def sync_logins(control: Control, folder: DataFolder) -> None:
    """Return when the running listener accepts exactly the logins that the database has."""
    write_mqtt_logins(folder.nats, [_login(login) for login in await broker_logins(control)])
    announced = folder.announced()
    pid = server_pid(folder.nats)
    if announced and pid:
        port = int(str(announced["nats_monitor"]).rpartition(":")[2])
        await reload(pid, Endpoint(port=port))


def _login(login: BrokerLogin) -> MqttLogin:
    return MqttLogin(
        user=login.user,
        bcrypt=login.bcrypt,
        publish=tuple(subject_of(topic) for topic in login.publish),
        subscribe=tuple(subject_of(topic) for topic in login.subscribe),
    )


def subject_of(topic_filter: str) -> str:
    """Return the NATS subject that nats-server makes of an MQTT topic filter: ``/`` is ``.``, and ``.`` is ``//``."""
    return topic_filter.replace(".", "\0").replace("/", ".").replace("\0", "//").replace("#", ">").replace("+", "*")
