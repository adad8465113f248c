"""What a person or a CronJob runs afterwards: `python -m events.repair.sweep`, `… .replay`."""
