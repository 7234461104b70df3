"""What the verbs of the command line do once their arguments are parsed: calls and prints, one module per verb."""
