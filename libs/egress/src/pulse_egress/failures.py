"""Translates what aiohttp, the TLS library and the system raise into the errors of this package, in one place."""

import errno
import socket
import ssl
from typing import Final

from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
)

from pulse_egress.dial import Attempt
from pulse_egress.errors import (
    ConnectFailed,
    ConnectFailure,
    EgressError,
    Phase,
    ProtocolViolation,
)
from pulse_egress.lookup import is_no_such_name

_BY_ERRNO: Final = {
    errno.ECONNREFUSED: ConnectFailure.REFUSED,
    errno.ECONNRESET: ConnectFailure.RESET,
    errno.ECONNABORTED: ConnectFailure.RESET,
    errno.EPIPE: ConnectFailure.RESET,
    errno.EMFILE: ConnectFailure.LOCAL,
    errno.ENFILE: ConnectFailure.LOCAL,
    errno.ENOBUFS: ConnectFailure.LOCAL,
    errno.ENOMEM: ConnectFailure.LOCAL,
    errno.EADDRNOTAVAIL: ConnectFailure.LOCAL,
}


def translate(exc: ClientError | OSError, attempt: Attempt) -> EgressError:
    """Returns the error to raise; its text is ours, since aiohttp's quotes the URL and what the receiver sent."""
    if attempt.refused is not None:
        return attempt.refused
    if attempt.phase is Phase.BODY:
        return ProtocolViolation("the body broke off or is malformed")
    if isinstance(exc, ClientConnectorDNSError):
        return _lookup_failed(exc.os_error)
    if isinstance(exc, ClientConnectionError | OSError):
        return _connect_failed(_cause(exc), attempt.phase)
    return ProtocolViolation("the answer is not valid http or its headers are too large")


def _cause(exc: Exception) -> Exception:
    if isinstance(exc, ClientConnectorCertificateError):  # has no os_error, although its base class promises one
        return exc.certificate_error
    return exc.os_error if isinstance(exc, ClientConnectorError) else exc


def _connect_failed(cause: Exception, phase: Phase) -> ConnectFailed:
    if isinstance(cause, ssl.SSLError):
        return ConnectFailed(ConnectFailure.TLS, _tls_detail(cause))
    number = (cause.errno if isinstance(cause, OSError) else None) or 0
    # A closed connection comes without a number. So do several addresses that failed differently, but then none was
    # ever connected.
    is_connected = phase is Phase.ANSWER or isinstance(cause, ConnectionError)
    otherwise = ConnectFailure.RESET if is_connected else ConnectFailure.UNREACHABLE
    return ConnectFailed(_BY_ERRNO.get(number, otherwise), errno.errorcode.get(number, ""))


def _lookup_failed(cause: OSError) -> ConnectFailed:
    detail = (cause.strerror or "") if isinstance(cause, socket.gaierror) else ""
    return ConnectFailed(ConnectFailure.UNKNOWN_NAME if is_no_such_name(cause) else ConnectFailure.DNS, detail)


def _tls_detail(cause: ssl.SSLError) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    return cause.reason or ""
