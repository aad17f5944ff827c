"""The dashboards, one module each. `kit` has their parts, and `places` the links between them."""
