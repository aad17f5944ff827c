"""Read dashboards and alert rules as Grafana does, and run them: for tests and the preview.

Only what bbbmeter's own dashboards use is here; what they do not use is an error, not a guess.
"""
