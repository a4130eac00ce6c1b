import pytest

from edge.deploy.devices import DEVICES, FIGURES, JETPACKS, SOURCES, device_named, jetpack_of, table
from edge.errors import InputError


def test_every_figure_has_a_source_that_can_be_looked_up() -> None:
    rows = {row["target"]: row for row in table()["devices"]}
    for device in DEVICES[1:]:
        row = rows[device.target]
        given = {name for name in FIGURES if row[name] not in (None, ())}
        assert given == set(row["sources"]), device.target
    used = {
        key for device in DEVICES for name, key in device.sources.items() if getattr(device, name) not in (None, ())
    }
    assert used == set(SOURCES), "a source that nothing comes from, or one that is not described"
    assert all("https://" in source for key, source in SOURCES.items() if key != "field")
    assert rows["cpu"]["sources"] == {}


def test_names_and_part_numbers_are_unique() -> None:
    names = [name for device in DEVICES for name in (device.target, *device.aliases)]
    modules = [module for device in DEVICES for module in device.modules]
    assert len(set(names)) == len(names)
    assert len(set(modules)) == len(modules)


def test_boards_run_jetpacks_that_are_in_the_table() -> None:
    versions = {jetpack.version for jetpack in JETPACKS}
    assert versions >= {version for device in DEVICES for version in device.jetpack}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("jetson-orin-nano", "jetson-orin-nano"),
        ("jetson-orin-nx-16gb", "jetson-orin-nx"),
        ("jetson-agx-orin-64gb", "jetson-agx-orin"),
        ("jetson-agx-thor", "jetson-thor"),
        ("cpu", "cpu"),
    ],
)
def test_a_device_is_found_by_name_or_alias(name: str, target: str) -> None:
    assert device_named(name).target == target


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(InputError, match="'jetson-orin-nanno' is not known; did you mean 'jetson-orin-nano'"):
        device_named("jetson-orin-nanno")
    with pytest.raises(InputError, match="see `edge devices`"):
        device_named("zzz")


@pytest.mark.parametrize(
    ("l4t", "version"),
    [("36.4.3", "6.2"), ("36.4.7", "6.2.1"), ("36.5.0", "6.2.2"), ("39.2.0", "7.2"), ("39.2.1", "7.2.1"),
     ("35.6.4", "5.1.x"), ("38.2.0", "7.0"), ("40.1", None), ("3", None)],
)  # fmt: skip
def test_l4t_tells_the_jetpack(l4t: str, version: str | None) -> None:
    found = jetpack_of(l4t)
    assert (found and found.version) == version
