"""`python -m ganomaly` is `ganomaly`."""

from ganomaly.cli import main

if __name__ == "__main__":
    main()
