"""A software bill of materials (CycloneDX JSON) of a wheel: what it needs, as installed in this environment.

    .venv/bin/python .ci/sbom.py dist/ganomaly-0.1.0-py3-none-any.whl constraints.txt

It is written beside the wheel, as <wheel>.cdx.json. Extras are not in it, and markers are those of this platform.
"""

import hashlib
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from os import environ
from pathlib import Path
from zipfile import ZipFile

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

LONGEST_NAME_OF_A_LICENCE = 80  # some packages put its whole text into the field


def requirements(lines: list[str], extras: set[str]) -> Iterator[Requirement]:
    """Give the requirements that apply on this platform with these extras, or none of them."""
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def closure(lines: list[str]) -> tuple[dict[str, Distribution], dict[str, set[str]]]:
    """Follow requirements; return the distributions by name, and the names that each needs ("" is the wheel)."""
    found: dict[str, Distribution] = {}
    needs: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [("", requirement) for requirement in requirements(lines, set())]
    while waiting:
        owner, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        needs.setdefault(owner, set()).add(name)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            sys.exit(f"{owner or 'the wheel'} needs {name}, which is not installed here")
        if not requirement.specifier.contains(found[name].version, prereleases=True):
            sys.exit(f"{owner or 'the wheel'} needs {requirement}; {found[name].version} is installed here")
        for extra in requirement.extras or {""}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(name, next_) for next_ in requirements(found[name].requires or [], {"", extra})]
    return found, needs


def licences(package: Distribution) -> list[DisjunctiveLicense | LicenseExpression]:
    """Say what a distribution says of its licence: an expression, else classifiers, else a short text."""
    metadata = package.metadata
    if expression := metadata.get("License-Expression"):
        return [LicenseExpression(expression)]
    classifiers = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or []
                   if line.startswith("License :: ")]  # fmt: skip
    if not classifiers and 0 < len(metadata.get("License") or "") < LONGEST_NAME_OF_A_LICENCE:
        classifiers = [metadata["License"]]
    return [DisjunctiveLicense(name=name) for name in sorted(set(classifiers))]


def check_versions(found: dict[str, Distribution], constraints: Path) -> None:
    """Refuse versions other than the tested ones; a local part (2.13.0+cpu) is the same version."""
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if "==" in line:
            name, _, version = line.partition("==")
            pins[canonicalize_name(name)] = Version(version.partition("#")[0].strip())
    for name, package in found.items():
        if name not in pins:
            sys.exit(f"{name} {package.version} is needed and has no line in {constraints}")
        if Version(Version(package.version).public) != pins[name]:
            sys.exit(f"{name} {package.version} is installed here, and {constraints} has {pins[name]}")


def write_sbom(wheel: Path, constraints: Path) -> Path:
    """Write the bill of a wheel; the same wheel and versions give the same bytes."""
    content = wheel.read_bytes()
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    found, needs = closure(metadata.get_all("Requires-Dist") or [])
    check_versions(found, constraints)

    bom = Bom()
    digest = hashlib.sha256(content).hexdigest()
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, f"sha256:{digest}")
    bom.metadata.timestamp = datetime.fromtimestamp(int(environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    components = {
        "": Component(
            name=metadata["Name"],
            version=metadata["Version"],
            type=ComponentType.APPLICATION,
            purl=PackageURL("pypi", None, metadata["Name"], metadata["Version"]),
            licenses=[LicenseExpression(metadata["License-Expression"])],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
            bom_ref=metadata["Name"],
        )
    }
    for key, package in found.items():
        components[key] = Component(
            name=package.metadata["Name"],
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", None, key, package.version),
            licenses=licences(package),
            bom_ref=key,
        )
        bom.components.add(components[key])
    bom.metadata.component = components[""]
    for key, component in components.items():
        bom.register_dependency(component, [components[needed] for needed in needs.get(key, ())])
    path = wheel.with_name(f"{wheel.name}.cdx.json")
    path.write_text(JsonV1Dot6(bom).output_as_string(indent=2), encoding="utf-8")
    return path


if __name__ == "__main__":
    print(write_sbom(Path(sys.argv[1]), Path(sys.argv[2])))
