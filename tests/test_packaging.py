"""What strangers install: the metadata of the package, the versions that were tested, and the container."""

import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
    if not line.startswith(PROJECT["name"])
]
PINS = [Requirement(line) for line in (GITHUB / "constraints.txt").read_text(encoding="utf-8").splitlines()]
PYTHONS = [
    name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.fullmatch(r"Programming .* :: 3\.\d+", name)
]


def pinned(requirement, environment):
    """Return the versions that the constraints allow for a requirement in an environment."""
    return [
        next(iter(pin.specifier)).version
        for pin in PINS
        if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        and (pin.marker is None or pin.marker.evaluate(environment))
    ]


def is_valid(requirement, versions):
    return len(versions) == 1 and versions[0] in requirement.specifier


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize("python", PYTHONS)
def test_constraints_pin_one_valid_version_of_each_requirement(python, system):
    environment = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system}
    wanted = [one for one in REQUIREMENTS if one.marker is None or one.marker.evaluate(environment)]
    found = [(requirement, pinned(requirement, environment)) for requirement in wanted]
    wrong = {str(requirement): versions for requirement, versions in found if not is_valid(requirement, versions)}
    assert wrong == {}


def test_constraints_name_versions_only():
    # pip rejects extras in constraints; a URL or a path would be one of the machine that made the file.
    assert [str(pin) for pin in PINS if pin.url or pin.extras or not str(pin.specifier).startswith("==")] == []


def test_ci_runs_each_version_of_python_in_the_metadata():
    matrix = re.search(r"python: \[(.*)\]", (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert [version.strip('" ') for version in matrix[1].split(",")] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_container_copies_what_the_package_is_built_from():
    context = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = {line[1:] for line in context if line.startswith("!")}
    assert [path for path in sorted(copied) if not (ROOT / path).exists()] == []
    assert copied >= {"pyproject.toml", "conf", "rvc_lightning", PROJECT["readme"], ".github/constraints.txt"}


def test_extras_of_the_container_exist():
    extras = re.search(r'"\.\[(.*)\]"', (GITHUB / "Dockerfile").read_text(encoding="utf-8"))
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
