"""Pages that show the dashboards with invented data, without Grafana: `make dashboards-preview`."""
