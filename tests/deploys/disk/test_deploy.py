"""What a run would do with a data disk, from facts in a table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploys.disk.deploy import apply, remove
from deploys.disk.devices import BlockDevice, Devices, DevicesFact
from deploys.disk.operations import (
    MountFact,
    MountState,
    OurUnit,
    OurUnitsFact,
    PlaceFact,
    PlaceState,
)
from deploys.disk.settings import BOT, MODELS, DiskSettings
from deploys.disk.units import disk_unit, place_unit, unit_of
from deploys.model.space import Space, SpaceFact, require_space
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState
from inventory.errors import CapacityError, HostError
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run

GB = 1 << 30
GOLDEN = Path(__file__).parent / "golden"
BLANK = BlockDevice("/dev/vdb", "disk", 100 * GB, empty=True)
OURS = BlockDevice(
    "/dev/vdb", "disk", 100 * GB, tags={"TYPE": "ext4", "LABEL": "clawd-data", "UUID": "u-1"}, empty=False
)
UNIT = OurUnit("srv-clawd.mount", "/srv/clawd", "/dev/disk/by-uuid/u-1")
BOT_UNIT = OurUnit("var-lib-clawd\\x2dbot.mount", "/var/lib/clawd-bot", "/srv/clawd/bot")


NOTHING = PlaceState()


def facts(disk: BlockDevice = BLANK, *units: OurUnit, place: PlaceState = NOTHING) -> dict[Any, Any]:
    return {
        DevicesFact: Devices((disk,)),
        OurUnitsFact: units,
        PlaceFact: place,
        MountFact: MountState(),
        PackagesFact: frozenset({"fdisk", "e2fsprogs"}),
        WantedFact: frozenset({"fdisk", "e2fsprogs"}),
        BroughtFact: None,
        PathFact: PathState(),
        SpaceFact: Space(free=GB, there=False, partial=0),
    }


def planned(known: dict[Any, Any], **settings: Any) -> Run:
    declared = DiskSettings(places=(MODELS, BOT)).model_copy(update=settings)
    return Machine({"disk": declared}, facts=known).run(apply, execute=False)


def test_plan_shows_what_is_formatted_and_moved() -> None:
    run = planned(facts(place=PlaceState(filled=True, size=31_500_000)))
    said = {change.path: change.diff for change in run.changes}
    assert said["/dev/vdb"] == ("partition and format as ext4, 107.4 GB (it is blank)",)
    assert said["/srv/clawd"] == ("mount the data disk",)
    assert said["/var/lib/clawd-bot"] == ("move 31.5 MB to /srv/clawd/bot and show them here",)


def test_disk_of_an_earlier_run_is_not_formatted() -> None:
    run = planned(facts(OURS), filesystem="xfs")
    assert "/dev/vdb" not in {change.path for change in run.changes}
    (unit,) = (change for change in run.changes if change.path.endswith("srv-clawd.mount"))
    assert "+What=/dev/disk/by-uuid/u-1" in unit.diff
    assert "+Type=ext4" in unit.diff


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (PlaceState(foreign=True), "is a link, or something else is mounted on it"),
        (
            PlaceState(filled=True, on_disk=True),
            "both /var/lib/clawd/models and /srv/clawd/models have files",
        ),
    ],
)
def test_ambiguous_folder_is_refused_and_not_moved(place: PlaceState, said: str) -> None:
    with pytest.raises(HostError, match=said):
        planned(facts(place=place))


def test_changed_mount_point_is_refused() -> None:
    with pytest.raises(HostError, match="mounted on /srv/clawd, and /data is declared"):
        planned(facts(OURS, UNIT), mount="/data", places=())


def test_removal_is_refused_while_a_service_uses_the_disk() -> None:
    used = replace(BOT_UNIT, users=("clawd-bot.service",))
    with pytest.raises(HostError, match=r"clawd-bot\.service keeps its data in /var/lib/clawd-bot"):
        Machine(facts=facts(OURS, used, UNIT)).run(remove, execute=False)


def test_removal_names_data_that_stays() -> None:
    run = Machine(facts=facts(OURS, BOT_UNIT, UNIT)).run(remove, execute=False)
    assert run.names[:2] == (
        "Remove disk | Unmount /var/lib/clawd-bot, data stay on the disk",
        "Remove disk | Unmount the data disk, whose data stay on it",
    )


def test_space_for_a_model_is_checked_on_the_disk_to_be_mounted() -> None:
    def whole(size: int, path: str) -> None:
        apply()
        require_space(path, size, "model x")

    settings = {"disk": DiskSettings(places=(MODELS,))}
    on_disk = f"{MODELS.folder}/x.gguf"
    Machine(settings, facts=facts()).run(lambda: whole(40 * GB, on_disk), execute=False)
    with pytest.raises(CapacityError):
        Machine(settings, facts=facts()).run(lambda: whole(100 * GB, on_disk), execute=False)
    with pytest.raises(CapacityError):
        Machine(settings, facts=facts()).run(lambda: whole(40 * GB, "/var/lib/other"), execute=False)


def test_mount_units_equal_golden_files() -> None:
    texts: dict[str, str] = {}

    def rendered() -> None:
        texts["srv-clawd.mount"] = disk_unit("/srv/clawd", "0d5ae0a7-1c1e-4f6e-9a3f-1f2e3d4c5b6a", "ext4")
        texts["place.mount"] = place_unit(BOT, "/srv/clawd")

    Machine().run(rendered, execute=False)
    for name, text in texts.items():
        assert_golden(GOLDEN / name, text)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/srv/clawd", "srv-clawd.mount"),
        ("/var/lib/clawd-bot", "var-lib-clawd\\x2dbot.mount"),
        ("/data_1.x", "data_1.x.mount"),
        ("/.data", "\\x2edata.mount"),
    ],
)
def test_unit_name_of_a_path_is_escaped_as_by_systemd(path: str, unit: str) -> None:
    assert unit_of(path) == unit
