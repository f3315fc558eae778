import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from pulse_control.routes import new_signing_secret
from pulse_delivery.kinds.webhook.signing import signature_256, signature_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
STAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_vector_of_standard_webhooks() -> None:
    assert signature_headers([SECRET], MESSAGE, STAMP, BODY) == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": str(STAMP),
        "webhook-signature": SIGNATURE,
    }


def test_while_a_secret_rotates_both_sign_the_newest_first() -> None:
    newer = new_signing_secret()
    signatures = signature_headers([newer, SECRET], MESSAGE, STAMP, BODY)["webhook-signature"].split(" ")
    assert len(signatures) == 2
    assert signatures[1] == SIGNATURE


def verify(secret: str, body: bytes, fields: dict[str, str]) -> object:
    return Webhook(secret).verify(body, fields)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=5), st.integers()), st.uuids().map(str), st.binary(min_size=24, max_size=64))
def test_a_customers_library_verifies_what_we_sign(payload: dict[str, int], message: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    body = json.dumps(payload, ensure_ascii=True).encode()
    fields = signature_headers([secret], message, _now(), body)
    assert verify(secret, body, fields) == payload


def test_a_customer_with_either_secret_verifies_while_one_rotates() -> None:
    secrets = [new_signing_secret(), new_signing_secret()]
    fields = signature_headers(secrets, MESSAGE, _now(), BODY)
    for secret in secrets:
        assert verify(secret, BODY, fields) == json.loads(BODY)


@pytest.mark.parametrize(
    "changed",
    [{"webhook-id": "msg_other"}, {"webhook-timestamp": "1"}, {"webhook-signature": "v1,AAAA"}],
    ids=["id", "timestamp", "signature"],
)
def test_nothing_that_is_signed_can_be_changed(changed: dict[str, str]) -> None:
    fields = {**signature_headers([SECRET], MESSAGE, _now(), BODY), **changed}
    with pytest.raises(WebhookVerificationError):
        verify(SECRET, BODY, fields)


def test_another_body_does_not_verify() -> None:
    with pytest.raises(WebhookVerificationError):
        verify(SECRET, BODY + b" ", signature_headers([SECRET], MESSAGE, _now(), BODY))


def test_the_predecessors_signature_is_keyed_with_the_secret_as_text() -> None:
    # printf '%s' 'body' | openssl dgst -sha256 -hmac 'whsec_key'
    expected = "sha256=b27069c6a0307eb3b2c02381bfb493d36d02d82488463d11c01d4eca61cb9f2a"
    assert signature_256("whsec_key", b"body") == expected


def _now() -> int:
    """The library compares with the host's clock."""
    return int(time.time())
