"""On PostgreSQL the service's role may do what erasure and tokens need, and no more."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from app.adapters.sql.subjects import SqlSubjectStore
from app.adapters.sql.tokens import SqlTokenStore
from app.subjects.erase import Erased
from tests.fakes.people import MemoryJournal, erase_subject, register, replay
from tests.fakes.tokens import issue_token, revoke_token
from tests.parts.sql_stores import open_part


@pytest.fixture
def part(postgres_url):
    with open_part(postgres_url) as part:
        event.listen(part.engine, "connect", lambda driver, _: driver.execute("SET ROLE assay_app") and driver.commit())
        part.engine.dispose()
        yield part


def test_the_services_role_can_seal_erase_issue_and_revoke(part) -> None:
    subjects, tokens = SqlSubjectStore(part.store, part.engine), SqlTokenStore(part.store, part.engine)
    register(subjects)
    journal = MemoryJournal()
    assert isinstance(erase_subject(subjects, journal), Erased)
    assert replay(subjects, journal).standing == 1
    assert revoke_token(tokens, issue_token(tokens).stored.id) is True


@pytest.mark.parametrize(
    "forbidden",
    [
        "DELETE FROM subject",  # the memory of an erasure
        "UPDATE subject_key SET key = key",
        "UPDATE sealed_field SET box = box",
        "DELETE FROM merchant_token",
    ],
)
def test_the_services_role_cannot_rewrite_what_is_only_made_and_destroyed(part, forbidden) -> None:
    with part.engine.connect() as connection, pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        connection.exec_driver_sql(forbidden)
