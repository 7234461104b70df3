"""Ask the package index for known vulnerabilities of the pinned packages; go on where it cannot be reached."""

import json
import subprocess
import sys
from pathlib import Path

COMMAND = (
    "pip-audit",
    "--requirement",
    "constraints.txt",
    "--no-deps",
    "--disable-pip",
    "--progress-spinner",
    "off",
)
SECONDS = 120


def main() -> int:
    """Return the exit status: 1 if there is a vulnerability."""
    program = Path(sys.executable).with_name(COMMAND[0])
    try:
        done = subprocess.run(
            [program, *COMMAND[1:], "--format", "json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
        dependencies = json.loads(done.stdout)["dependencies"]
    except (OSError, ValueError, subprocess.TimeoutExpired):
        dependencies = []
    audited = [dependency for dependency in dependencies if "vulns" in dependency]
    if not audited:
        print(
            "pip-audit was skipped: the database of vulnerabilities cannot be reached from here",
            file=sys.stderr,
        )
        return 0
    print(f"pip-audit: {len(audited)} of {len(dependencies)} pinned packages audited")
    vulnerable = [dependency for dependency in audited if dependency["vulns"]]
    for dependency in vulnerable:
        for vulnerability in dependency["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            print(f"{dependency['name']} {dependency['version']}: {vulnerability['id']}, fixed in {fixed}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main())
