"""Check that CHANGELOG.md follows from the commits: what was released has a date, what changed since has an entry."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEADING = re.compile(r"^## (?:Unreleased|(\d+\.\d+\.\d+) — (?:\d{4}-\d\d-\d\d|unreleased))$")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}  # of Keep a Changelog
PACKAGE = "src/ganomaly"


def git(*arguments: str) -> str:
    """Give what git prints, or nothing if it fails."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def sections(changelog: str) -> dict[str, list[str]]:
    """Give the lines below each heading of a version."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in changelog.splitlines():
        if line.startswith("## "):
            name = line
            found[name] = []
        elif name:
            found[name].append(line)
    return found


def problems(changelog: str, version: str, tag: str, tag_is_here: bool, changed: bool) -> list[str]:
    """Say what is wrong; `tag` is the last release's, or empty, `changed` whether the package has changed since."""
    found = sections(changelog)
    wrong = [f"'{heading}' is no heading of a version" for heading in found if not HEADING.match(heading)]
    kinds = {line[4:] for lines in found.values() for line in lines if line.startswith("### ")}
    wrong += [f"'### {kind}' is none of {', '.join(sorted(KINDS))}" for kind in sorted(kinds - KINDS)]
    has_entries = any(line.startswith("- ") for line in found.get("## Unreleased", []))
    if next(iter(found), "") != "## Unreleased":
        wrong.append("the first section is not '## Unreleased'")
    elif changed and not has_entries:
        wrong.append(
            f"{PACKAGE} has changed since {tag or 'the first commit'}, and 'Unreleased' has no entry"
        )
    if tag_is_here:
        if tag != f"v{version}":
            wrong.append(f"the tag is {tag}, the version {version}")
        if not any(re.match(rf"## {re.escape(version)} — \d", heading) for heading in found):
            wrong.append(f"{version} is released, and has no section with a date")
        if has_entries:
            wrong.append(f"'Unreleased' has entries that belong to {version}")
    return wrong


def main() -> int:
    """Return the exit status: 1 if something is wrong."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    tag_is_here = bool(tag) and git("rev-parse", f"{tag}^{{commit}}") == git("rev-parse", "HEAD")
    changed = bool(git("log", "-1", "--format=%h", f"{tag}..HEAD" if tag else "HEAD", "--", PACKAGE))
    text = (ROOT / PACKAGE / "version.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.*)"', text)
    assert version
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    wrong = problems(changelog, version[1], tag, tag_is_here, changed)
    for sentence in wrong:
        print(f"CHANGELOG.md: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
