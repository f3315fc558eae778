from pathlib import Path
from typing import Annotated, ClassVar

import pytest
from pydantic import AliasChoices, Field, SecretStr, field_validator

from pulse_runtime.settings import (
    Row,
    ServiceSettings,
    SettingsInvalid,
    Unit,
    load_settings,
    masked,
    reference_rows,
    variables,
)

CANARY = "canary-4711"
DATABASE = f"postgresql://writer:{CANARY}@db/pulse"


class DeliverySettings(ServiceSettings):
    known_elsewhere: ClassVar[frozenset[str]] = frozenset({"PULSE_MQTT_URL"})

    slots: Annotated[int, Unit("attempts")] = Field(
        default=4096,
        ge=1,
        description="Attempts in flight.",
        validation_alias=AliasChoices("slots", "DELIVERY_WORKER_COUNT"),
    )
    brokers: tuple[str, ...] = Field(default=(), description="Names of brokers.")
    key_ring: SecretStr | None = Field(default=None, description="Keys that open secrets at rest.")

    @field_validator("key_ring")
    @classmethod
    def _quotes_what_it_refuses(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().startswith("bad"):
            raise ValueError(f"{value.get_secret_value()} is no key ring")
        return value


def environment(**more: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin",
        "PULSE_NATS_URL": "nats://nats:4222",
        "PULSE_NATS_USER": "delivery",
        "PULSE_NATS_PASSWORD": CANARY,
        "PULSE_DATABASE_URL": DATABASE,
        "PULSE_ADMIN_PORT": "0",
        **more,
    }


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(DeliverySettings, environ)
    assert CANARY not in str(caught.value)
    assert "bad" not in str(caught.value)
    return caught.value.problems


def test_values_come_from_prefixed_variables() -> None:
    settings = load_settings(DeliverySettings, environment(PULSE_BROKERS="a, b"))
    assert settings.nats_url == "nats://nats:4222"
    assert settings.nats_password.get_secret_value() == CANARY
    assert settings.admin_port == 0
    assert settings.brokers == ("a", "b")


def test_lists_may_be_json() -> None:
    assert load_settings(DeliverySettings, environment(PULSE_BROKERS='["a", "b"]')).brokers == ("a", "b")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings(DeliverySettings).nats_user == "delivery"


def test_an_object_made_by_hand_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_LOG_LEVEL", "debug")
    settings = DeliverySettings(
        nats_url="nats://x", nats_user="u", nats_password=SecretStr("p"), database_url=SecretStr("d"), admin_port=0
    )
    assert settings.log_level == "info"


@pytest.mark.parametrize("name", ["PULSE_SLOTS", "DELIVERY_WORKER_COUNT"])
def test_both_spellings_of_an_aliased_setting_work(name: str) -> None:
    assert load_settings(DeliverySettings, environment(**{name: "100"})).slots == 100


def test_two_spellings_may_agree_but_not_differ() -> None:
    agreeing = environment(PULSE_SLOTS="100", DELIVERY_WORKER_COUNT="100")
    assert load_settings(DeliverySettings, agreeing).slots == 100
    (problem,) = problems(environment(PULSE_SLOTS="100", DELIVERY_WORKER_COUNT="200"))
    assert problem == "PULSE_SLOTS and DELIVERY_WORKER_COUNT are two names of one setting and differ"


def test_a_missing_setting_is_named_with_its_meaning() -> None:
    environ = environment()
    del environ["PULSE_NATS_USER"]
    assert problems(environ) == ("PULSE_NATS_USER is not set: User that the service has in the NATS account.",)


def test_an_empty_variable_counts_as_not_set() -> None:
    assert problems(environment(PULSE_NATS_PASSWORD=""))[0].startswith("PULSE_NATS_PASSWORD is not set")
    assert load_settings(DeliverySettings, environment(PULSE_LOG_LEVEL="")).log_level == "info"


def test_a_malformed_value_is_shown_under_the_spelling_that_was_used() -> None:
    (problem,) = problems(environment(DELIVERY_WORKER_COUNT="many"))
    assert problem.startswith("DELIVERY_WORKER_COUNT: ")
    assert problem.endswith("not 'many'")


def test_all_problems_are_reported_at_once() -> None:
    found = problems(environment(PULSE_ADMIN_PORT="99999", PULSE_LOG_LEVEL="loud", PULSE_NATS_USER=""))
    assert {problem.split(":")[0].split(" ")[0] for problem in found} == {
        "PULSE_ADMIN_PORT",
        "PULSE_LOG_LEVEL",
        "PULSE_NATS_USER",
    }


def test_a_secret_is_not_shown_even_if_its_validator_quotes_it() -> None:
    (problem,) = problems(environment(PULSE_KEY_RING=f"bad-{CANARY}"))
    assert problem == "PULSE_KEY_RING: Value error, *** is no key ring"


def test_a_password_inside_a_refused_address_is_not_shown() -> None:
    (problem,) = problems(environment(PULSE_ADMIN_PORT=f"nats://user:{CANARY}@host"))
    assert problem.endswith("not 'nats://user:***@host'")


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    (problem,) = problems(environment(PULSE_NATS_PASWORD=CANARY))
    assert problem == "PULSE_NATS_PASWORD is not a setting, did you mean PULSE_NATS_PASSWORD?"
    (problem,) = problems(environment(PULSE_ZZZZZZ=""))
    assert problem == "PULSE_ZZZZZZ is not a setting"


def test_names_of_other_services_and_failpoints_pass() -> None:
    load_settings(DeliverySettings, environment(PULSE_MQTT_URL="x", PULSE_FAILPOINTS="a=on", PULSE_FAILPOINT_X="1"))


def test_secrets_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "pulse_nats_password").write_text("from-a-file\n")
    (tmp_path / "..data").mkdir()
    environ = environment(PULSE_SECRETS_DIR=str(tmp_path), PULSE_NATS_PASSWORD="")
    assert load_settings(DeliverySettings, environ).nats_password.get_secret_value() == "from-a-file"


def test_a_variable_wins_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "PULSE_NATS_USER").write_text("from-a-file")
    environ = environment(PULSE_SECRETS_DIR=str(tmp_path))
    assert load_settings(DeliverySettings, environ).nats_user == "delivery"


def test_an_unknown_or_unreadable_secret_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pulse_nats_pasword").write_text(CANARY)
    (tmp_path / "pulse_key_ring").write_bytes(b"\xff\xfe")
    found = problems(environment(PULSE_SECRETS_DIR=str(tmp_path)))
    assert any("PULSE_NATS_PASWORD is not a setting" in problem for problem in found)
    assert any("PULSE_KEY_RING: " in problem and "not UTF-8" in problem for problem in found)


def test_a_missing_secrets_directory_is_refused(tmp_path: Path) -> None:
    (problem,) = problems(environment(PULSE_SECRETS_DIR=str(tmp_path / "none")))
    assert problem.startswith("PULSE_SECRETS_DIR: cannot read ")


def test_masked_settings_show_no_secret() -> None:
    environ = environment(PULSE_NATS_URL=f"nats://user:{CANARY}@nats:4222", PULSE_KEY_RING=CANARY)
    shown = masked(load_settings(DeliverySettings, environ))
    assert CANARY not in repr(shown)
    assert shown["nats_url"] == "nats://user:***@nats:4222"
    assert shown["database_url"] == "***"
    assert shown["slots"] == 4096


def test_the_reference_shows_every_spelling_unit_and_default() -> None:
    rows = {row.variable: row for row in reference_rows(DeliverySettings)}
    assert rows["PULSE_SLOTS"] == Row(
        variable="PULSE_SLOTS",
        aliases=("DELIVERY_WORKER_COUNT",),
        type="int",
        unit="attempts",
        default="4096",
        description="Attempts in flight.",
    )
    assert rows["PULSE_NATS_PASSWORD"].type == "secret"
    assert rows["PULSE_NATS_PASSWORD"].default is None
    assert rows["PULSE_LOG_FORMAT"].type == "auto | json | pretty"


def test_all_spellings_are_known_variables() -> None:
    assert {"PULSE_SLOTS", "DELIVERY_WORKER_COUNT", "PULSE_NATS_URL"} <= variables(DeliverySettings)


def test_a_setting_without_description_or_unit_cannot_be_declared() -> None:
    with pytest.raises(TypeError, match=r"Nameless\.port needs a description"):

        class Nameless(ServiceSettings):  # pyright: ignore[reportUnusedClass] -- its declaration is what fails
            port: int = 1

    with pytest.raises(TypeError, match=r"Unitless\.wait needs a unit"):

        class Unitless(ServiceSettings):  # pyright: ignore[reportUnusedClass] -- its declaration is what fails
            wait: float = Field(default=1.0, description="How long.")
