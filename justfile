# The only door: `uv run just` lists what can be done.

set positional-arguments := true

export PYTHONUNBUFFERED := "1"

[private]
default:
    @just --list --unsorted

# Run all of Pulse here until interrupted
[group('run')]
up *args:
    pulse up "$@"

# Run all of Pulse, fifty devices and five kinds of destination, and balance the ledger
[group('run')]
demo *args:
    pulse demo "$@"

# With arguments, such as paths or -k EXPRESSION, these only, one after the other.
# All tests, against real servers that they start themselves: most two at a time, then those that measure times
[group('test')]
test *args:
    @if [ $# -gt 0 ]; then exec pytest "$@"; fi; \
    pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"; beside=$?; \
    [ $beside -le 1 ] && pytest -m alone && exit $beside

# The tests that need no server
[group('test')]
unit *args:
    pytest tests/unit "$@"

# Faults, one after the other, and a ledger after each: --cell N, --seed S, --long, --outage S, --results FILE
[group('test')]
chaos *args:
    PYTHONPATH=tests/e2e python tests/chaos/run.py "$@"

# Everything but the tests: format, lint, types, walls, dependencies, generated pages
[group('check')]
check: lint types walls dependencies docs-check

# Format the code
[group('check')]
format:
    ruff format .
    ruff check --fix-only .

[group('check')]
lint:
    ruff format --check .
    ruff check .

[group('check')]
types:
    basedpyright

# The import rules of .importlinter
[group('check')]
walls:
    lint-imports

# Each member declares what it imports, and nothing else
[group('check')]
dependencies:
    for member in libs/* services/*; do (cd "$member" && echo "$member" && deptry --no-ansi src) || exit 1; done

# Write the generated pages of docs/reference and the generated files of deploy
[group('docs')]
docs:
    python docs/generate.py
    python deploy/generate.py

[group('docs')]
docs-check:
    python docs/generate.py --check
    python deploy/generate.py --check

# The README's two commands in a fresh clone, as you or (as root) as another user
[group('ci')]
newcomer *user:
    .ci/newcomer "$@"

# The tests, then every check
[group('ci')]
ci: test check

# The benches: without a name they are listed
[group('bench')]
mod bench
