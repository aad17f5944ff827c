"""What Grafana shows of bbbmeter: dashboards and alerts as code, and how they are checked."""
