"""Reports: queries of the SQL functions, shown as a table, as CSV or as JSON."""
