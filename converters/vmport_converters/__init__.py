"""Storey 2, doing: turns one thing into another with plans, pipelines, engines and publishing."""
