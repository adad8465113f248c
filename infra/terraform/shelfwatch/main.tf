locals {
  cluster_name = coalesce(var.cluster_name, var.name)
  arn_prefix   = "arn:${data.aws_partition.this.partition}"

  # The keys of the results bucket, as events/outbox.py and function/audit.py write and read them.
  results    = "results/"
  published  = "published/"
  references = "references/"
}

data "aws_partition" "this" {}

################################################################################
# Key: photos may show people, so they and what is found in them rest under a key of ours
################################################################################

resource "aws_kms_key" "data" {
  description             = "Photos, results, events and log lines of ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30

  # The account decides by IAM who may use it; nobody else.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "Account"
      Effect    = "Allow"
      Principal = { AWS = "${local.arn_prefix}:iam::${var.account_id}:root" }
      Action    = "kms:*"
      Resource  = "*"
    }]
  })
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}"
  target_key_id = aws_kms_key.data.key_id
}

################################################################################
# Photos in, results out
################################################################################

module "photos" {
  source = "./modules/bucket"

  name        = "${var.name}-photos-${var.account_id}"
  kms_key_arn = aws_kms_key.data.arn
  expire_days = { "" = var.photo_retention_days }
}

module "results" {
  source = "./modules/bucket"

  name        = "${var.name}-results-${var.account_id}"
  kms_key_arn = aws_kms_key.data.arn
  expire_days = {
    (local.results)   = var.results_retention_days
    (local.published) = var.results_retention_days
  }
}

# Loki's own compactor removes what is a month old.
module "logs" {
  source = "./modules/bucket"

  name        = "${var.name}-logs-${var.account_id}"
  kms_key_arn = aws_kms_key.data.arn
  expire_days = {}
}

module "queue" {
  source = "./modules/queue"

  name            = "${var.name}-photos"
  alarm_topic_arn = aws_sns_topic.alarms.arn

  sender = {
    sid     = "PhotosBucket"
    service = "s3.amazonaws.com"
    arn     = module.photos.arn
    # A bucket's ARN has no account: one deleted and taken by a stranger would get in.
    account_id = var.account_id
  }

  alarms = {
    age          = "A photo has waited for a quarter of an hour: nothing is received, or one message fails again and again."
    dead_letters = "Photos were given up. python -m events.repair.replay lists them with the reason."
    backlog = {
      what     = "Photos wait: more come than the function audits. Are its pods ready, is the source's breaker open?"
      messages = var.max_backlog
    }
    dead_letters_rate = {
      what         = "Photos are given up in numbers: stop the source (scale it to 0), then look at the function."
      in_5_minutes = 10
    }
  }
}

# Every object: a suffix filter is case-sensitive and would lose what a camera calls .JPG. What is no
# picture is answered with a rejection.
resource "aws_s3_bucket_notification" "photos" {
  bucket = module.photos.name

  queue {
    id        = "photos"
    queue_arn = module.queue.arn
    events    = ["s3:ObjectCreated:*"]
  }

  depends_on = [module.queue] # S3 sends a test event at once: the queue must let it in by then
}

################################################################################
# Events
################################################################################

resource "aws_sns_topic" "events" {
  name              = "${var.name}-events"
  kms_master_key_id = aws_kms_key.data.arn
}

resource "aws_sns_topic_policy" "events" {
  arn = aws_sns_topic.events.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = aws_sns_topic.events.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      [for id in var.subscriber_account_ids : {
        Sid       = "Subscriber${id}"
        Effect    = "Allow"
        Principal = { AWS = "${local.arn_prefix}:iam::${id}:root" }
        Action    = "sns:Subscribe"
        Resource  = aws_sns_topic.events.arn
        Condition = { StringEquals = { "sns:Protocol" = "sqs" } }
      }],
    )
  })
}

################################################################################
# What an installation of before has under other names
################################################################################

moved {
  from = module.queue.aws_sqs_queue.photos
  to   = module.queue.aws_sqs_queue.this
}

moved {
  from = module.queue.aws_sqs_queue_policy.photos
  to   = module.queue.aws_sqs_queue_policy.this
}

moved {
  from = module.queue.aws_cloudwatch_metric_alarm.photos
  to   = module.queue.aws_cloudwatch_metric_alarm.this
}
