"""An inspection station: HTTP API, review pages, recalibration, drift; needs the extra `serve`."""
