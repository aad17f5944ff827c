"""Checks the dashboards' JSON against Grafana's own types: `python -m grafana.types`."""
