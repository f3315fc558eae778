from router_builders import NOW, envelope, route

from pulse_contracts.subjects import parse_route_address
from pulse_router.adapters.routing import delivery_of

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def test_a_delivery_is_named_after_the_match_so_that_routing_again_stores_nothing_twice() -> None:
    first = delivery_of(envelope(), route("r-1"), b"data", NOW)
    again = delivery_of(envelope(), route("r-1", revision=2), b"data", NOW)
    assert first.message_id == again.message_id == "m-1:r-1"


def test_the_matches_of_one_message_have_names_of_their_own() -> None:
    names = {delivery_of(envelope(), route(route_id), b"data", NOW).message_id for route_id in ("r-1", "r-2")}
    assert len(names) == 2


def test_the_subject_names_kind_tenant_and_route() -> None:
    address = parse_route_address(delivery_of(envelope(), route("r-1", kind="nats"), b"data", NOW).subject)
    assert (address.kind, address.tenant, address.route) == ("nats", "acme", "r-1")


def test_the_envelope_goes_on_as_it_came() -> None:
    message = envelope({"a": 1})
    assert delivery_of(message, route("r"), message.encode(), NOW).data == message.encode()


def test_the_headers_say_which_revision_matched_and_when() -> None:
    fields = delivery_of(envelope(), route("r", revision=7), b"data", NOW).headers
    assert fields == {"Pulse-Route-Revision": "7", "Pulse-Routed-At": str(int(NOW.timestamp() * 1000))}


def test_the_trace_goes_on_with_the_delivery() -> None:
    fields = delivery_of(envelope(), route("r"), b"data", NOW, TRACEPARENT).headers
    assert fields["traceparent"] == TRACEPARENT
