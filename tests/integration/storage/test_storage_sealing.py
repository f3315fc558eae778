import base64

import pytest
from storage_rows import ACME, GLOBEX, ROUTE_IDS

from pulse_contracts.ids import RouteId, TenantId
from pulse_storage.routes import SealedSecrets
from pulse_storage.sealing import KeyRing, KeyRingInvalid, SecretsUnreadable

ROUTE = ROUTE_IDS[ACME]
OLD = f"old:{base64.b64encode(b'o' * 32).decode()}"
NEW = f"new:{base64.b64encode(b'n' * 32).decode()}"
SECRETS = {"signing": "whsec_abc", "headers": {"authorization": "Bearer x"}}


def test_secrets_open_for_the_route_they_were_sealed_for() -> None:
    ring = KeyRing.parse(OLD)

    sealed = ring.seal(ACME, ROUTE, SECRETS)

    assert ring.open(ACME, ROUTE, sealed) == SECRETS
    assert b"whsec" not in sealed.ciphertext


@pytest.mark.parametrize(("tenant", "route"), [(GLOBEX, ROUTE), (ACME, ROUTE_IDS[GLOBEX])])
def test_secrets_moved_to_another_tenant_or_route_do_not_open(tenant: str, route: str) -> None:
    ring = KeyRing.parse(OLD)
    sealed = ring.seal(ACME, ROUTE, SECRETS)

    with pytest.raises(SecretsUnreadable, match="do not belong"):
        ring.open(TenantId(tenant), RouteId(route), sealed)


def test_secrets_that_were_tampered_with_do_not_open() -> None:
    ring = KeyRing.parse(OLD)
    sealed = ring.seal(ACME, ROUTE, SECRETS)
    flipped = bytes((*sealed.ciphertext[:-1], sealed.ciphertext[-1] ^ 1))

    with pytest.raises(SecretsUnreadable):
        ring.open(ACME, ROUTE, SealedSecrets(key_id=sealed.key_id, ciphertext=flipped))


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    sealed_before = KeyRing.parse(OLD).seal(ACME, ROUTE, SECRETS)
    ring = KeyRing.parse(f"{NEW},{OLD}")

    assert ring.open(ACME, ROUTE, sealed_before) == SECRETS
    assert ring.seal(ACME, ROUTE, SECRETS).key_id == "new"


def test_a_key_that_is_gone_is_named() -> None:
    sealed = KeyRing.parse(OLD).seal(ACME, ROUTE, SECRETS)

    with pytest.raises(SecretsUnreadable, match="no key 'old'"):
        KeyRing.parse(NEW).open(ACME, ROUTE, sealed)


def test_a_route_without_secrets_has_none() -> None:
    assert KeyRing.parse(OLD).open(ACME, ROUTE, None) == {}


def test_equal_secrets_look_different() -> None:
    ring = KeyRing.parse(OLD)

    assert ring.seal(ACME, ROUTE, SECRETS).ciphertext != ring.seal(ACME, ROUTE, SECRETS).ciphertext


@pytest.mark.parametrize("text", ["", "nokey", "id:", "id:****", "id:é", f":{OLD}", "id:c2hvcnQ=", f"{OLD},,"])
def test_a_key_ring_that_cannot_be_read_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(KeyRingInvalid, match=r"^key \d is not") as refusal:
        KeyRing.parse(text)

    assert "c2hvcnQ=" not in str(refusal.value)
