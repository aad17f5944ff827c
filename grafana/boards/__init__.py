"""The dashboards, one module each; `kit` has what they are made of, `places` how they link."""
