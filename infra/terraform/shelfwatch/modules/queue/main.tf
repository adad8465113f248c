# The queue of photos and its dead-letter queue: who may send, how often a message is tried, and who
# is told when photos wait. A notification names a photo and holds none: SQS's own encryption does.

locals {
  days              = 24 * 60 * 60
  max_message_bytes = 1024 * 1024 # SQS's own limit; S3 sends up to 64 KiB, and what does not fit is lost
}

################################################################################
# Queues
################################################################################

resource "aws_sqs_queue" "photos" {
  name                       = var.name
  visibility_timeout_seconds = 120 # the sink answers within 55 s; the source extends a longer lease
  message_retention_seconds  = 4 * local.days
  receive_wait_time_seconds  = 20
  max_message_size           = local.max_message_bytes
  sqs_managed_sse_enabled    = true

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = 8 # each release and each kill costs one, and Spot kills often
  })
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dlq"
  message_retention_seconds = 14 * local.days # a message keeps the time at which it was first sent
  max_message_size          = local.max_message_bytes
  sqs_managed_sse_enabled   = true
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.photos.arn]
  })
}

################################################################################
# Who may send: S3 for this bucket of this account; and the roles that IAM lets
################################################################################

resource "aws_sqs_queue_policy" "photos" {
  queue_url = aws_sqs_queue.photos.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "PhotosBucket"
        Effect    = "Allow"
        Principal = { Service = "s3.amazonaws.com" }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.photos.arn
        Condition = {
          ArnEquals = { "aws:SourceArn" = var.bucket_arn }
          # A bucket's ARN has no account: one deleted and taken by a stranger would get in.
          StringEquals = { "aws:SourceAccount" = var.account_id }
        }
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.photos.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "TlsOnly"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = aws_sqs_queue.dead_letters.arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

################################################################################
# Alarms
################################################################################

locals {
  five_minutes = 300

  alarms = {
    backlog = {
      what      = "Photos wait: more come than the function audits. Are its pods ready, is the source's breaker open?"
      queue     = aws_sqs_queue.photos.name
      metric    = "ApproximateNumberOfMessagesVisible"
      threshold = var.max_backlog
      periods   = 3
    }
    age = {
      what      = "A photo has waited for a quarter of an hour: nothing is received, or one message fails again and again."
      queue     = aws_sqs_queue.photos.name
      metric    = "ApproximateAgeOfOldestMessage" # seconds
      threshold = 15 * 60
      periods   = 1
    }
    dead-letters = {
      what      = "Photos were given up. python -m events.repair.replay lists them with the reason."
      queue     = aws_sqs_queue.dead_letters.name
      metric    = "ApproximateNumberOfMessagesVisible"
      threshold = 0
      periods   = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "photos" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.what
  namespace           = "AWS/SQS"
  metric_name         = each.value.metric
  dimensions          = { QueueName = each.value.queue }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  period              = local.five_minutes
  evaluation_periods  = each.value.periods
  treat_missing_data  = "notBreaching" # SQS stops to count a queue that is empty for six hours
  alarm_actions       = [var.alarm_topic_arn]
  ok_actions          = [var.alarm_topic_arn]
}

# A fault of the function drains the queue into the dead-letter queue at full speed; the count alone
# says the same of one corrupt photo and of all of them. NumberOfMessagesSent does not see what SQS
# moves by itself, so this is the count's growth.
resource "aws_cloudwatch_metric_alarm" "dead_letters_rate" {
  alarm_name          = "${var.name}-dead-letters-rate"
  alarm_description   = "Photos are given up in numbers: stop the source (scale it to 0), then look at the function."
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.max_dead_letters_in_5_minutes
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.alarm_topic_arn]
  ok_actions          = [var.alarm_topic_arn]

  metric_query {
    id          = "growth"
    expression  = "DIFF(count)"
    label       = "Dead letters more than five minutes ago"
    return_data = true
  }

  metric_query {
    id = "count"
    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = { QueueName = aws_sqs_queue.dead_letters.name }
      stat        = "Maximum"
      period      = local.five_minutes
    }
  }
}
