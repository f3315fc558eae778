from datetime import UTC, datetime

import pytest
from delivery_builders import NOW, envelope

from pulse_contracts import headers
from pulse_contracts.envelope import InvalidEnvelope
from pulse_delivery.adapters.parcels import read_parcel
from pulse_delivery.adapters.settler import destination_of

SUBJECT = "delivery.webhook.acme.r-1"
DATA = envelope().encode()


def test_a_parcel_says_whose_it_is_and_what_happened_to_it() -> None:
    fields = {
        headers.ROUTE_REVISION: "3",
        headers.ROUTED_AT: str(int(NOW.timestamp() * 1000)),
        headers.ATTEMPTS: "2",
        headers.ANSWERED: "1",
    }
    parcel = read_parcel(SUBJECT, DATA, fields, 0.0)
    assert (parcel.address.kind, parcel.address.tenant, parcel.address.route) == ("webhook", "acme", "r-1")
    assert (parcel.revision, parcel.routed_at, parcel.attempts, parcel.answered) == (3, NOW, 2, 1)
    assert parcel.envelope == envelope()


def test_without_headers_a_parcel_is_as_old_as_its_storing() -> None:
    parcel = read_parcel(SUBJECT, DATA, {}, 1767614400.0)
    assert parcel.routed_at == datetime(2026, 1, 5, 12, tzinfo=UTC)
    assert (parcel.revision, parcel.attempts, parcel.answered) == (0, 0, 0)


@pytest.mark.parametrize(
    ("subject", "data", "fields"),
    [
        ("telemetry.acme.d.t", DATA, {}),
        ("delivery.webhook.acme", DATA, {}),
        ("delivery.webhook.acme.r.more", DATA, {}),
        ("delivery.webhook.=ZZ.r", DATA, {}),
        (SUBJECT, b"", {}),
        (SUBJECT, b"{}", {}),
        (SUBJECT, b'{"a":1,"payload":{}}', {}),
        (SUBJECT, DATA, {headers.ATTEMPTS: "many"}),
        (SUBJECT, DATA, {headers.ROUTED_AT: "9" * 30}),
    ],
)
def test_what_is_no_parcel_is_refused_as_an_envelope(subject: str, data: bytes, fields: dict[str, str]) -> None:
    with pytest.raises(InvalidEnvelope):
        read_parcel(subject, data, fields, 0.0)


def test_a_destination_is_named_without_what_may_be_secret() -> None:
    assert destination_of(None) == "unknown"
