# A queue that a source reads, and its dead-letter queue: who may send, how often a message is tried,
# and who is told when messages wait. A message names a photo and holds none: SQS's own encryption does.

locals {
  days              = 24 * 60 * 60
  max_message_bytes = 1024 * 1024 # SQS's own limit; S3 sends up to 64 KiB, SNS 256, and what does not fit is lost
}

################################################################################
# Queues
################################################################################

resource "aws_sqs_queue" "this" {
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
    sourceQueueArns   = [aws_sqs_queue.this.arn]
  })
}

################################################################################
# Who may send: one service for one source; and the roles that IAM lets
################################################################################

resource "aws_sqs_queue_policy" "this" {
  queue_url = aws_sqs_queue.this.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = var.sender.sid
        Effect    = "Allow"
        Principal = { Service = var.sender.service }
        Action    = "sqs:SendMessage"
        Resource  = aws_sqs_queue.this.arn
        Condition = merge(
          { ArnEquals = { "aws:SourceArn" = var.sender.arn } },
          { for id in compact([var.sender.account_id]) : "StringEquals" => { "aws:SourceAccount" = id } },
        )
      },
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sqs:*"
        Resource  = aws_sqs_queue.this.arn
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
      what      = try(var.alarms.backlog.what, null)
      queue     = aws_sqs_queue.this.name
      metric    = "ApproximateNumberOfMessagesVisible"
      threshold = try(var.alarms.backlog.messages, null)
      periods   = 3
    }
    age = {
      what      = var.alarms.age
      queue     = aws_sqs_queue.this.name
      metric    = "ApproximateAgeOfOldestMessage" # seconds
      threshold = 15 * 60
      periods   = 1
    }
    dead-letters = {
      what      = var.alarms.dead_letters
      queue     = aws_sqs_queue.dead_letters.name
      metric    = "ApproximateNumberOfMessagesVisible"
      threshold = 0
      periods   = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = { for name, alarm in local.alarms : name => alarm if alarm.what != null }

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

# A fault of the sink drains the queue into the dead-letter queue at full speed; the count alone says
# the same of one bad message and of all of them. NumberOfMessagesSent does not see what SQS
# moves by itself, so this is the count's growth.
resource "aws_cloudwatch_metric_alarm" "dead_letters_rate" {
  count = var.alarms.dead_letters_rate == null ? 0 : 1

  alarm_name          = "${var.name}-dead-letters-rate"
  alarm_description   = var.alarms.dead_letters_rate.what
  comparison_operator = "GreaterThanThreshold"
  threshold           = var.alarms.dead_letters_rate.in_5_minutes
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
