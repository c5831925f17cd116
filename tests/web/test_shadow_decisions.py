"""A proposed bundle is asked beside the one in force, on real payments, and decides nothing."""

from __future__ import annotations

import itertools

import pytest

from app.policy.evidence import Reports
from tests.parts.assay import wait_until
from tests.parts.decided import change
from tests.parts.web import PAYMENT, TENANT, WAIT, open_web
from tests.policies.rego_suite import shipped

AUTHOR = "token:tok_author"
TESTS = {"kyc/kyc_test.rego": b"package kyc_test\n\ntest_it if true\n"}


@pytest.fixture
def web(tmp_path):
    with open_web(tmp_path) as part:
        yield part


def propose(web, bundle):
    life = web.installation.policies.life
    life.add(TENANT, bundle, TESTS, actor=AUTHOR)
    life.propose(TENANT, bundle.digest, Reports(), actor=AUTHOR)


def pay(web, key):
    return web.post("/v1/payments", json=PAYMENT, headers={**WAIT, "Idempotency-Key": key}).json


def list_shadows(web):
    return web.get("/v1/decisions?mode=shadow").json["decisions"]


def pay_until_shadowed(web):
    """Pay until the proposal is noticed, a second later at most, and its decision published; return that."""
    keys = itertools.count()

    def is_shadowed() -> bool:
        pay(web, f"payment-{next(keys)}")
        return bool(list_shadows(web))

    wait_until(is_shadowed, what="a shadow decision")
    return list_shadows(web)[0]


def test_a_shadow_is_recorded_and_never_acted_on(web):
    before = pay(web, "before")
    denies = change(shipped(), "kyc/kyc.rego", 'standing == "allowed"', 'standing == "nobody"')
    propose(web, denies)
    shadow = pay_until_shadowed(web)
    enforced = web.get(f"/v1/decisions/{shadow['ref']['shadow_of']}").json
    assert (enforced["verdict"], shadow["verdict"]) == ("allow", "review")
    assert shadow["bundle"]["digest"] == denies.digest
    assert enforced["bundle"]["digest"] == shipped().digest
    assert "payment" not in shadow["ref"]
    payment = web.get(f"/v1/payments/{enforced['ref']['payment']}").json
    assert payment["status"] == before["status"], "the shadow stopped nothing"
    assert shadow["subject"] == payment["subject"]
    assert web.get(f"/v1/decisions/{shadow['id']}/explain").json["same_result"] is True


def test_a_shadow_goes_with_the_person(web):
    propose(web, change(shipped(), "kyc/kyc.rego", 'standing == "allowed"', 'standing == "nobody"'))
    shadow = pay_until_shadowed(web)
    assert shadow["replayable"] is True
    web.call("DELETE", f"/v1/subjects/{shadow['subject']}")
    after = web.get(f"/v1/decisions/{shadow['id']}").json
    assert (after["replayable"], after["not_replayable"]) == (False, "erased")
