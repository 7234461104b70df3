"""`ganomaly doctor`."""

import json

from ganomaly.commands.console import Console
from ganomaly.installation import describe_installation, in_words


def doctor(console: Console, *, as_json: bool) -> None:
    """Print what is installed and what the machine offers."""
    description = describe_installation()
    if as_json:
        print(json.dumps(description, indent=2))
        return
    console.table(in_words(description))
    incomplete = [name for name, extra in description["extras"].items() if not extra["complete"]]
    if incomplete:
        console.say(f"extras are needed for what they are named after; incomplete: {', '.join(incomplete)}")
