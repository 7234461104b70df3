"""From a file or bytes to pixels: a reader for each family of formats."""
