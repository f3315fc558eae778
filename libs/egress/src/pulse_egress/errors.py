"""Every way in which egress can fail; none of the texts quotes a path, a header or what a receiver sent."""

from enum import StrEnum


class Refusal(StrEnum):
    """Why a URL or an address is out of bounds; the name is a metric label, the value a text for the tenant.

    The texts never name a resolved address: a tenant must not learn our view of the network from a refusal.
    """

    TOO_LONG = "the url is too long"
    CHARACTER = "the url holds a character that must not stand there"
    FORM = "the url is not of the form scheme://host/path"
    SCHEME = "the scheme is not https"
    PLAIN_HTTP = "plain http is not allowed here"
    USERINFO = "the url holds user information"
    FRAGMENT = "the url holds a fragment"
    PORT = "the port is not allowed"
    HOST = "the host is not a valid name"
    NUMERIC_HOST = "the host is a number but not a plain ipv4 address"
    LOCAL_NAME = "the host is not a public name"
    ADDRESS = "the host is not at a public address"
    OWN_ADDRESS = "the host is this machine"
    NO_ADDRESS = "the host has no address"


class Phase(StrEnum):
    """How far an attempt had come."""

    QUEUE = "queue"  # its owner's look-ups, or everybody's, leave no room for the one of its name: nobody was asked
    DNS = "dns"
    CONNECT = "connect"  # TCP and TLS
    ANSWER = "answer"  # sending the request, waiting for status and headers
    BODY = "body"


class ConnectFailure(StrEnum):
    """Why no answer came over a connection."""

    DNS = "dns"  # no name server answered
    UNKNOWN_NAME = "unknown name"  # a name server says that there is none
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TLS = "tls"
    RESET = "reset"  # the receiver closed the connection before it answered
    LOCAL = "local"  # this machine lacks sockets, ports or memory: not the receiver's fault


class EgressError(Exception):
    """The root of everything that this package raises."""


class AddressRefused(EgressError):
    """Nothing was sent, since the destination is out of bounds; the answer will not change by trying again."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(f"address refused: {reason}")
        self.reason = reason


class HeaderRefused(EgressError):
    """A header that a customer may not set, or that cannot stand in a request."""

    def __init__(self, why: str) -> None:
        super().__init__(f"header refused: {why}")
        self.why = why


class EgressTimeout(EgressError):
    """The deadline passed; the receiver may or may not have taken the message."""

    def __init__(self, phase: Phase) -> None:
        super().__init__(f"timed out in phase {phase}")
        self.phase = phase


class ConnectFailed(EgressError):
    """No answer came; with `RESET` the receiver may nevertheless have taken the message."""

    def __init__(self, reason: ConnectFailure, detail: str = "") -> None:
        super().__init__(f"connection failed: {reason}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail
        """What the system or the TLS library calls it; never text of the receiver."""


class ProtocolViolation(EgressError):
    """The receiver does not speak HTTP, or breaks a bound; it may have taken the message."""

    def __init__(self, why: str) -> None:
        super().__init__(f"protocol violation: {why}")
        self.why = why
