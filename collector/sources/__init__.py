"""Sources turn the reports of servers and files into the data types of `collector.model`.

Each way in which data arrive has its own folder. A source does not know the database or the command
line. It passes its results to a callback.
"""
