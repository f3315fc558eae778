import base64

import bcrypt
import pytest

from pulse_contracts.ids import RouteId, TenantId
from pulse_contracts.kinds import installed_kinds
from pulse_control.routes import (
    _split,  # pyright: ignore[reportPrivateUsage] - what follows it needs a database
    new_signing_secret,
)
from pulse_control.tokens import bcrypt_of, new_token, sha256_of
from pulse_ingest.domain.credentials import digest
from pulse_storage.sealing import KeyRing, KeyRingInvalid, SecretsUnreadable

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
ROUTE, OTHER = RouteId("r-1"), RouteId("r-2")
SECRETS = {"signing": ["whsec_x"], "secret_headers": {"authorization": "Bearer é"}}
OLD_KEY = "old:" + base64.b64encode(b"o" * 32).decode()
NEW_KEY = "new:" + base64.b64encode(b"n" * 32).decode()


def test_secrets_are_parted_from_what_may_be_seen() -> None:
    config = {"url": "https://example.com", "headers": {"a": "b"}, "secret_headers": {"c": "d"}}
    assert _split(installed_kinds()["webhook"], config) == (
        {"url": "https://example.com", "headers": {"a": "b"}},
        {"secret_headers": {"c": "d"}},
    )


@pytest.mark.parametrize(("kind", "config"), [("nats", {"subject": "a"}), ("postgresql", {})])
def test_a_kind_without_secrets_keeps_none(kind: str, config: dict[str, object]) -> None:
    assert _split(installed_kinds()[kind], config) == (config, {})


@pytest.mark.parametrize("prefix", ["dev", "key"])
def test_a_token_says_what_it_is_and_carries_32_random_bytes(prefix: str) -> None:
    token = new_token(prefix)
    kind, _, body = token.partition("_")
    assert kind == prefix
    assert len(base64.urlsafe_b64decode(body + "=")) == 32
    assert token != new_token(prefix)


def test_a_tokens_digest_is_what_ingest_looks_up() -> None:
    token = new_token("dev")
    assert sha256_of(token) == digest(token)


def test_a_tokens_bcrypt_is_what_a_broker_compares_with() -> None:
    token = new_token("dev")
    assert bcrypt.checkpw(token.encode(), bcrypt_of(token).encode())
    assert not bcrypt.checkpw(token[:-1].encode(), bcrypt_of(token).encode())


def test_a_token_is_shorter_than_what_bcrypt_reads() -> None:
    assert len(new_token("dev").encode()) <= 72


def test_a_signing_secret_is_as_standard_webhooks_asks() -> None:
    secret = new_signing_secret()
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32


def test_sealed_secrets_open_for_their_own_tenant_and_route_only() -> None:
    keys = KeyRing.parse(NEW_KEY)
    sealed = keys.seal(ACME, ROUTE, SECRETS)
    assert keys.open(ACME, ROUTE, sealed) == SECRETS
    for tenant, route in ((GLOBEX, ROUTE), (ACME, OTHER)):
        with pytest.raises(SecretsUnreadable):
            keys.open(tenant, route, sealed)


def test_the_same_secrets_are_sealed_differently_each_time() -> None:
    keys = KeyRing.parse(NEW_KEY)
    assert keys.seal(ACME, ROUTE, SECRETS).ciphertext != keys.seal(ACME, ROUTE, SECRETS).ciphertext


def test_the_newest_key_seals_and_older_ones_still_open() -> None:
    sealed_before = KeyRing.parse(OLD_KEY).seal(ACME, ROUTE, SECRETS)
    ring = KeyRing.parse(f"{NEW_KEY}, {OLD_KEY}")
    assert ring.open(ACME, ROUTE, sealed_before) == SECRETS
    assert ring.seal(ACME, ROUTE, SECRETS).key_id == "new"


def test_without_its_key_a_secret_is_unreadable_and_the_key_is_named() -> None:
    sealed = KeyRing.parse(OLD_KEY).seal(ACME, ROUTE, SECRETS)
    with pytest.raises(SecretsUnreadable, match="'old'"):
        KeyRing.parse(NEW_KEY).open(ACME, ROUTE, sealed)


def test_a_route_without_secrets_has_none() -> None:
    assert KeyRing.parse(NEW_KEY).open(ACME, ROUTE, None) == {}


@pytest.mark.parametrize("text", ["", "x", ":", "k:", "k:AAAA", "k:!!!!", NEW_KEY + ",", NEW_KEY + ",k:short", "=:="])
def test_a_key_ring_that_cannot_be_read_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(KeyRingInvalid) as caught:
        KeyRing.parse(text)
    assert NEW_KEY.partition(":")[2] not in str(caught.value)
