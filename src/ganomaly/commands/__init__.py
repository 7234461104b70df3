"""What the verbs of the command line do, once their arguments are read: a module each, imported when it is needed."""
