"""The settings of the router."""

from typing import Annotated

from pydantic import Field

from pulse_runtime.settings import ServiceSettings, Unit


class RouterSettings(ServiceSettings):
    """What the router is told."""

    judgement_retention_days: Annotated[int, Unit("d")] = Field(
        default=7, ge=1, le=365, description="How long it is known which routes judged a message, also if none matched."
    )
