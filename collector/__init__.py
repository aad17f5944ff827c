"""bbbmeter: usage metering for BigBlueButton fleets."""

__version__ = "0.1.0"
