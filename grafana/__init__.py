"""Grafana's dashboards and alerts for bbbmeter as code, and the checks of them."""
