"""The event types of the service, as in the `type` attribute."""

# In: the CloudEvents adapter for S3, https://github.com/cloudevents/spec adapters/aws-s3.md;
# the operation follows (Put, Post, Copy, CompleteMultipartUpload).
S3_OBJECT_CREATED = "com.amazonaws.s3.ObjectCreated:"
# In, too: Knative's IntegrationSource for SQS, whose events carry the message's body; the second
# name is that of its older releases.
# https://github.com/knative-extensions/eventing-integrations aws-sqs-source
SQS_MESSAGE_TYPES = ("dev.knative.eventing.aws-sqs", "dev.knative.connector.event.aws-sqs")
# Out: one of the two for every image.
SHELF_AUDITED = "io.shelfwatch.shelf.audited"
IMAGE_REJECTED = "io.shelfwatch.image.rejected"

# The `dataschema` of each: the `$id` of the JSON Schema beside this file. The number grows with a
# change that may break a consumer; a new field is none, as consumers ignore what they do not know.
DATA_SCHEMAS = {
    SHELF_AUDITED: "urn:shelfwatch:schema:shelf.audited:1",
    IMAGE_REJECTED: "urn:shelfwatch:schema:image.rejected:1",
}
