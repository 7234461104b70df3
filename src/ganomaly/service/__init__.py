"""The model on the line: HTTP API and review pages, and connectors to cameras, folders and machines."""
