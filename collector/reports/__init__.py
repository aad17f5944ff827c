"""Questions to the SQL functions, answered as rows, as a table, as CSV or as JSON."""
