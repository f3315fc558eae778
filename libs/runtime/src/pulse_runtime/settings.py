"""Settings of a service: read once at start, from environment variables and secret files, or refused as a whole."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar, get_args, get_origin

from pydantic import AliasChoices, Field, SecretBytes, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pulse_runtime.logging import LogFormat, LogLevel
from pulse_runtime.redaction import MASK, looks_secret, mask, redact
from pulse_runtime.refusal import StartRefused
from pulse_runtime.setting_sources import PREFIX, SECRETS_DIR, Given, gather

S = TypeVar("S", bound="ServiceSettings")

_FAILPOINTS: Final = "PULSE_FAILPOINT"
_SCALES: Final = (int, float, timedelta)
_SEQUENCES: Final = (list, tuple, set, frozenset)
_SECRETS: Final = (SecretStr, SecretBytes)


class SettingsInvalid(StartRefused):
    """What was set cannot be used; every problem is named at once, by variable and never with a secret's value."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid settings: " + "; ".join(self.problems))


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a number, as in `Annotated[float, Unit("s")]`; each numeric setting has one."""

    name: str


class ServiceSettings(BaseSettings):
    """What every service is told; each service adds its own fields in a subclass.

    Objects come from `load_settings`, or from explicit arguments by field name. The class itself never looks at the
    environment, so that an object made in a test does not depend on who runs it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        loc_by_alias=False,
        hide_input_in_errors=True,
    )

    known_elsewhere: ClassVar[frozenset[str]] = frozenset()
    """Variables of other services and of the CLI: one environment may configure several processes."""

    nats_url: str = Field(description="Servers of the NATS cluster, separated by commas, as in nats://nats:4222.")
    nats_user: str = Field(description="User that the service has in the NATS account.")
    nats_password: SecretStr = Field(description="Password of that user.")
    database_url: SecretStr = Field(
        description="PostgreSQL as the role of this service, as in postgresql://pulse_ingest:...@db/pulse."
    )
    admin_host: str = Field(default="127.0.0.1", description="Address that metrics, health and readiness bind to.")
    admin_port: Annotated[int, Unit("port")] = Field(
        ge=0, le=65535, description="Port for metrics, health and readiness; 0 takes any free one."
    )
    log_level: LogLevel = Field(default="info", description="Least severe level that is logged.")
    log_format: LogFormat = Field(
        default="auto", description="JSON lines, or readable lines; auto is readable on a terminal only."
    )

    blocked_loop_dump_s: Annotated[float, Unit("s")] = Field(
        default=5.0,
        ge=0.1,
        description="An event loop that stands still for so long has the stacks of all threads dumped into the log.",
    )
    trace_ratio: Annotated[float, Unit("share")] = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the messages whose traces are exported over OTLP, to OTEL_EXPORTER_OTLP_ENDPOINT. Ingest "
        "decides for each message; the others record their part if this is above 0. 0 switches tracing off.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- pydantic-settings passes all five by name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- same
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- same
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if not field.description:
                raise TypeError(f"{cls.__name__}.{name} needs a description")
            if _is_scale(field) and _unit(field) is None:
                raise TypeError(f"{cls.__name__}.{name} needs a unit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One setting as the reference page shows it."""

    variable: str
    aliases: tuple[str, ...]
    """Other spellings that are understood, the predecessor's among them."""
    type: str
    unit: str | None
    default: str | None
    """None if it must be set."""
    description: str


def load_settings(cls: type[S], environ: Mapping[str, str] | None = None) -> S:
    """Read the settings of a service, by default from the process's environment.

    An empty variable counts as not set. Raises `SettingsInvalid` with all problems: what is missing, malformed, given
    twice with different values, or bears our prefix but means nothing to anybody.
    """
    given = gather(environ)
    values: dict[str, object] = {}
    problems = [*given.problems, *_unknown(cls, given)]
    for name, field in cls.model_fields.items():
        spellings = given.spellings(_names(name, field))
        if len(set(spellings.values())) > 1:
            problems.append(f"{' and '.join(spellings)} are two names of one setting and differ")
        for text in list(spellings.values())[:1]:
            values[name] = _decode(field, text)
    try:
        settings = cls.model_validate(values)
    except ValidationError as exc:
        problems.extend(_explain(cls, exc, given))
    else:
        if not problems:
            return settings
    raise SettingsInvalid(problems)


def masked(settings: ServiceSettings) -> dict[str, object]:
    """The settings by field, fit for a log: no secrets, no passwords inside addresses."""
    return {
        name: MASK if _is_secret(name, field) else mask(name, getattr(settings, name))
        for name, field in type(settings).model_fields.items()
    }


def variables(cls: type[ServiceSettings]) -> frozenset[str]:
    """Every variable the class understands, all spellings; what others put into `known_elsewhere`."""
    return frozenset(variable for name, field in cls.model_fields.items() for variable in _names(name, field))


def reference_rows(cls: type[ServiceSettings]) -> list[Row]:
    """The settings in the order of their declaration, for the generated reference page."""
    return [_row(name, field) for name, field in cls.model_fields.items()]


def _row(name: str, field: FieldInfo) -> Row:
    variable, *aliases = _names(name, field)
    return Row(
        variable=variable,
        aliases=tuple(aliases),
        type=_type_name(field.annotation),
        unit=_unit(field),
        default=None if field.is_required() else _default_text(field),
        description=field.description or "",
    )


def _names(name: str, field: FieldInfo) -> list[str]:
    """The variables of a field: ours first, then each alias as it is written."""
    match field.validation_alias:
        case AliasChoices(choices=choices):
            aliases = [choice for choice in choices if isinstance(choice, str)]
        case str() as alias:
            aliases = [alias]
        case _:
            aliases = []
    return list(dict.fromkeys([PREFIX + name.upper(), *(alias.upper() for alias in aliases if alias != name)]))


def _unknown(cls: type[ServiceSettings], given: Given) -> list[str]:
    known = variables(cls) | cls.known_elsewhere | {SECRETS_DIR}
    strangers = [name for name in given.prefixed - known if not name.startswith(_FAILPOINTS)]
    return [f"{name} is not a setting{_hint(name, known)}" for name in sorted(strangers)]


def _hint(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {nearest[0]}?" if nearest else ""


def _decode(field: FieldInfo, text: str) -> object:
    """Lists may be written as JSON or with commas, objects as JSON; anything else pydantic reads from text."""
    shape = get_origin(field.annotation) or field.annotation
    if shape in _SEQUENCES and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",")]
    if shape is dict or shape in _SEQUENCES:
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _explain(cls: type[ServiceSettings], error: ValidationError, given: Given) -> list[str]:
    return [
        _problem(cls, details["loc"], details["type"], details["msg"], given)
        for details in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def _problem(cls: type[ServiceSettings], loc: tuple[int | str, ...], kind: str, message: str, given: Given) -> str:
    name = str(loc[0]) if loc else ""
    field = cls.model_fields.get(name)
    if field is None:
        return _without_secrets(cls, given, message)
    names = _names(name, field)
    spellings = given.spellings(names)
    if kind == "missing":
        also = f" (or {', '.join(names[1:])})" if names[1:] else ""
        return f"{names[0]}{also} is not set: {field.description}"
    shown = (
        "" if _is_secret(name, field) else "".join(f", not {redact(text)!r}" for text in list(spellings.values())[:1])
    )
    return f"{next(iter(spellings), names[0])}: {_without_secrets(cls, given, message)}{shown}"


def _without_secrets(cls: type[ServiceSettings], given: Given, message: str) -> str:
    """A validator's own message may quote what it was given, its own secret or a longer one that contains it."""
    secrets = [
        value
        for name, field in cls.model_fields.items()
        if _is_secret(name, field)
        for value in given.spellings(_names(name, field)).values()
    ]
    for value in sorted(secrets, key=len, reverse=True):
        message = message.replace(value, MASK)
    return redact(message)


def _is_secret(name: str, field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return looks_secret(name) or any(kind in _SECRETS for kind in kinds)


def _is_scale(field: FieldInfo) -> bool:
    kinds = (field.annotation, *get_args(field.annotation))
    return any(kind in _SCALES for kind in kinds)


def _unit(field: FieldInfo) -> str | None:
    return next((item.name for item in field.metadata if isinstance(item, Unit)), None)


def _type_name(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if isinstance(annotation, UnionType):
        return " | ".join(_type_name(choice) for choice in get_args(annotation) if choice is not NoneType)
    if isinstance(annotation, type) and not get_args(annotation):
        return "secret" if annotation in _SECRETS else annotation.__name__
    return str(annotation).replace("typing.", "")


def _default_text(field: FieldInfo) -> str:
    default: object = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, _SECRETS):
        return str(default.get_secret_value())
    return "" if default is None else str(default)
