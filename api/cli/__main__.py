"""`python -m api.cli`: the same as `redis-oncall`."""

from api.cli.main import main

main()
