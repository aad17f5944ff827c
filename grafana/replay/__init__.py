"""A test harness that reads dashboards and alert rules as Grafana does, and runs them.

The tests in tests/grafana, the benchmark of the dashboards and the preview run every query with
it. Grafana itself never runs this code. `grafana.generate` and `grafana.types` use one function
of it: `board.panels`, which lists the panels of a dashboard.

It knows only what bbbmeter's own dashboards use. Anything else is an error, not a guess.
"""
