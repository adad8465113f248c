"""The long-lived process: messages from a queue to a sink. `python -m events.source`"""
