"""``pulse migrate``."""

from pulse_cli.control import check_database_url
from pulse_cli.lazy import command_app
from pulse_cli.options import Data, Json
from pulse_cli.output import emit
from pulse_cli.running import run
from pulse_cli.target import find_target
from pulse_control.installation import migrate_database

app = command_app()


@app.command("migrate")
def migrate(data: Data = None, *, as_json: Json = False) -> None:
    """Apply the missing migrations; PULSE_OWNER_DATABASE_URL names a role that may create roles."""

    async def work() -> None:
        target = find_target(data)
        check_database_url(target.owner_variable, target.owner_url)
        emit({"applied": await migrate_database(target.owner_url)}, as_json=as_json)

    run(work())
