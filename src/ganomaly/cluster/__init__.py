"""Scoring on several processes and machines, with Ray Data."""
