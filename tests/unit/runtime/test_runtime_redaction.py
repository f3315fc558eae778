import pytest

from pulse_runtime.redaction import looks_secret, mask, redact

CANARY = "canary4711"


@pytest.mark.parametrize(
    "name",
    [
        "token", "device_token", "X-Provision-Token", "password", "nats_password", "secret", "secrets",
        "Authorization", "key", "api_key", "apiKey", "apikey", "key_id", "encryption-keys",
    ],
)  # fmt: skip
def test_these_names_hold_secrets(name: str) -> None:
    assert looks_secret(name)


@pytest.mark.parametrize("name", ["route_id", "monkey", "keyboard", "destination", "message_id", "keynote", "error"])
def test_these_names_do_not(name: str) -> None:
    assert not looks_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"signed with whsec_{CANARY}+/=, sorry", "signed with whsec_***, sorry"),
        (f"sent Bearer {CANARY}", "sent Bearer ***"),
        (f"Authorization: Basic {CANARY}", "Authorization: ***"),
        (f"authorization: bearer {CANARY}", "authorization: bearer ***"),
        (f"{{'Authorization': '{CANARY}'}}", "{'Authorization': '***'}"),
        (f"postgresql://w:{CANARY}@db/pulse down", "postgresql://w:***@db/pulse down"),
        (f"postgresql://w:p@{CANARY}@db/pulse", "postgresql://w:***@db/pulse"),
        (f"nats://a:{CANARY}@h1:4222,nats://b:{CANARY}@h2", "nats://a:***@h1:4222,nats://b:***@h2"),
        (f"nats://{CANARY}@h1:4222", "nats://***@h1:4222"),
        (f"https://h/hook?token={CANARY}&a=1", "https://h/hook?token=***&a=1"),
        (f"host=db password={CANARY} user=w", "host=db password=*** user=w"),
        ("https://example.com/hook", "https://example.com/hook"),
        ("postgresql://user@db/pulse", "postgresql://user@db/pulse"),
        ("the bearer of news", "the bearer *** news"),
    ],
)
def test_text_loses_its_secrets_and_keeps_the_rest(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_masking_reaches_into_everything_that_can_hold_a_value() -> None:
    class Loud:
        def __repr__(self) -> str:
            return f"<token=whsec_{CANARY}>"

    value = {
        "headers": [("Authorization", f"Bearer {CANARY}")],
        "nested": {"deep": [{"password": CANARY}, {CANARY: 1}]},
        "body": f"Bearer {CANARY}".encode(),
        "object": Loud(),
        "set": {f"whsec_{CANARY}"},
        "error": ValueError(f"Bearer {CANARY}"),
        f"whsec_{CANARY}": "a key of a mapping",
        "token": [CANARY],
    }
    shown = str(mask("value", value))
    assert shown.count(CANARY) == 1, "only the bare word under no telling name is left"


def test_plain_values_keep_their_types() -> None:
    assert mask("value", {"a": 1, "b": 1.5, "c": True, "d": None}) == {"a": 1, "b": 1.5, "c": True, "d": None}


def test_a_value_that_contains_itself_ends() -> None:
    value: list[object] = []
    value.append(value)
    assert "..." in str(mask("value", value))
