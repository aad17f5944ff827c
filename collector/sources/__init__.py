"""What servers and files report, turned into the facts of `collector.model`.

A folder for each way in which facts arrive. A source knows neither the database nor the command
line: it hands its facts to a callback.
"""
