"""What tests get for a new database is one: nothing of the test before is in it."""

import psycopg
import pytest

from tests.api.postgresql_tables import AsGoodAsNew

FREEZE = (
    "INSERT INTO freezes (reason, by, at, until, thawed_by) VALUES ('', '', now(), now(), '')"
    " RETURNING id"
)


def left(url: str, statement: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement)
        return done.fetchone() if done.description else None


def test_one_is_used_again_without_its_rows(as_good_as_new: AsGoodAsNew) -> None:
    first = as_good_as_new.url()
    assert left(first, FREEZE) == (1,)
    assert as_good_as_new.url() == first
    assert left(first, "SELECT count(*) FROM freezes") == (0,)
    assert left(first, FREEZE) == (1,), "it is numbered from the beginning"


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE pages ADD COLUMN more text",
        "CREATE TABLE more (id int)",
        "DROP TRIGGER audit_stays ON audit",
        "ALTER TABLE audit DISABLE TRIGGER audit_stays",
        "UPDATE alembic_version SET version_num = '0001'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 999', current_database()); "
        "END $$",
    ],
)
def test_one_that_is_not_as_it_was_is_not_used_again(
    as_good_as_new: AsGoodAsNew, statement: str
) -> None:
    first = as_good_as_new.url()
    left(first, statement)
    assert as_good_as_new.url() != first


def test_one_that_somebody_is_connected_to_is_not_used_again(as_good_as_new: AsGoodAsNew) -> None:
    first = as_good_as_new.url()
    with psycopg.connect(first):
        assert as_good_as_new.url() != first
