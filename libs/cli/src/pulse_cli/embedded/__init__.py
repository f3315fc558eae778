"""The all-in-one: nats-server, PostgreSQL and the services as child processes of one supervisor, on loopback only.

Linux only: it leans on `PR_SET_PDEATHSIG`, on pidfds and on `setpriv` of util-linux. The parts are usable alone; tests
start a `NatsServer` or a `PostgresServer` under a `Supervisor` without the rest.
"""
