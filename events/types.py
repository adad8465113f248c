"""The event types of the service, as in the `type` attribute."""

# In: the CloudEvents adapter for S3, https://github.com/cloudevents/spec adapters/aws-s3.md;
# the operation follows (Put, Post, Copy, CompleteMultipartUpload).
S3_OBJECT_CREATED = "com.amazonaws.s3.ObjectCreated:"
# Out: one of the two for every image.
SHELF_AUDITED = "io.shelfwatch.shelf.audited"
IMAGE_REJECTED = "io.shelfwatch.image.rejected"
