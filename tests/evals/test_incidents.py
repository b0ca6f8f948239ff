"""What the collection of recorded incidents must hold."""

from typing import get_args

import pytest

from agent.causes import CATALOGUED
from evals import servers
from evals.faults import FAULTS
from evals.faults.fault import Kind
from evals.record import takes
from evals.truth import RecordedIncident, incidents

SHIPPED = incidents()


def of(mode: str) -> list[RecordedIncident]:
    """Incidents of which this is the one right answer, or which the fault of this name made."""
    return [one for one in SHIPPED if one.truth.root_cause == [mode] or one.truth.fault == mode]


def test_there_are_enough() -> None:
    assert len(SHIPPED) >= 160
    assert sum(not one.truth.is_incident for one in SHIPPED) >= 25
    assert {one.truth.build for one in SHIPPED} == set(servers.BUILDS)
    assert {one.truth.kind for one in SHIPPED} == {*get_args(Kind)} - {"production", "faint"}


@pytest.mark.parametrize("mode", sorted(CATALOGUED))
def test_every_mode_is_there_three_times(mode: str) -> None:
    """With different seeds, and on two builds where more than one can have it."""
    found = of(mode)
    assert len({(one.truth.fault, one.truth.seed) for one in found}) >= 3
    possible = {build for one in found for build in FAULTS[one.truth.fault].builds}
    assert len({one.truth.build for one in found}) >= min(2, len(possible))


def test_every_recording_is_a_take_of_the_lab_and_every_take_is_recorded() -> None:
    wanted = {(take.name, take.fault, take.build, take.seed) for take in takes()}
    truths = {(one.id, one.truth.fault, one.truth.build, one.truth.seed) for one in SHIPPED}
    assert truths == wanted


def test_the_unknown_is_expected_where_nobody_can_know() -> None:
    """A mode outside the catalogue: never one inside it."""
    strange = [one for one in SHIPPED if one.truth.kind == "uncatalogued"]
    assert len(strange) >= 5
    assert {cause for one in strange for cause in one.truth.root_cause} == {"unknown"}


def test_second_faults_have_to_be_named() -> None:
    doubles = [one for one in SHIPPED if one.truth.kind == "two-faults"]
    assert len(doubles) >= 5
    assert [one.id for one in doubles if not one.truth.also] == []


def test_what_was_made_after_a_document_says_so() -> None:
    assert [one.id for one in SHIPPED if one.truth.fixture != FAULTS[one.truth.fault].fixture] == []
