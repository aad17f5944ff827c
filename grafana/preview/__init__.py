"""Pages that show the dashboards on made-up data, without Grafana: `make dashboards-preview`."""
