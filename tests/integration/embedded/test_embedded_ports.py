import socket
from pathlib import Path

from pulse_cli.embedded.ports import Endpoint, Ports


def listen(endpoint: Endpoint) -> socket.socket:
    """As a server does."""
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((endpoint.host, endpoint.port))
    server.listen()
    return server


def test_a_name_keeps_its_port_across_restarts(tmp_path: Path) -> None:
    with Ports(tmp_path / "ports.json") as first:
        endpoint = first.hold("nats")
        assert endpoint == first.hold("nats")
    with Ports(tmp_path / "ports.json") as second:
        assert endpoint == second.hold("nats")


def test_a_remembered_port_that_somebody_else_listens_on_is_replaced(tmp_path: Path) -> None:
    with Ports(tmp_path / "ports.json") as first:
        endpoint = first.hold("nats")
    with listen(endpoint), Ports(tmp_path / "ports.json") as second:
        replacement = second.hold("nats")
        assert replacement != endpoint
    with Ports(tmp_path / "ports.json") as third:
        assert replacement == third.hold("nats")


def test_a_remembered_port_with_connections_in_time_wait_is_kept(tmp_path: Path) -> None:
    with Ports(tmp_path / "ports.json") as first:
        endpoint = first.hold("nats")
        with listen(endpoint) as server, socket.create_connection((endpoint.host, endpoint.port)) as client:
            accepted, _ = server.accept()
            accepted.close()  # the side that closes first waits
            assert client.recv(1) == b""
    with Ports(tmp_path / "ports.json") as second:
        assert endpoint == second.hold("nats")


def test_stacks_that_choose_side_by_side_never_share_a_port() -> None:
    stacks = [Ports() for _ in range(20)]
    chosen = [ports.hold(name).port for ports in stacks for name in ("http", "mqtt", "nats", "postgres")]
    for ports in stacks:
        ports.close()
    assert len(chosen) == len(set(chosen))


def test_a_held_port_lets_a_server_listen_and_refuses_clients_before() -> None:
    with Ports() as ports:
        endpoint = ports.hold("nats")
        with socket.socket() as client:
            assert client.connect_ex((endpoint.host, endpoint.port)) != 0
        with listen(endpoint), socket.create_connection((endpoint.host, endpoint.port)):
            assert ports.is_taken("nats")
        assert not ports.is_taken("nats")
