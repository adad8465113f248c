"""How events reach and leave the function: S3 to SQS to CloudEvent, and CloudEvent to SNS."""
