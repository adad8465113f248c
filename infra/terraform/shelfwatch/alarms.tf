################################################################################
# Where alarms go
################################################################################

resource "aws_sns_topic" "alarms" {
  #checkov:skip=CKV_AWS_26: an alarm names a queue and a number; under a key it would get lost, in silence, with one missing grant
  name = "${var.name}-alarms"
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsAndBudget"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = var.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "alarm_email" {
  count = var.alarm_email == "" ? 0 : 1

  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email" # waits until the link in the first mail is followed
  endpoint  = var.alarm_email
}

# Alertmanager's watchdog tells this topic every five minutes that alerts would arrive. Nobody subscribes:
# the alarm below counts, and so comes through where the cluster is gone, and Prometheus with it.
resource "aws_sns_topic" "heartbeat" {
  #checkov:skip=CKV_AWS_26: it says that it is alive, and nothing else
  name = "${var.name}-heartbeat"
}

resource "aws_cloudwatch_metric_alarm" "heartbeat" {
  alarm_name          = "${var.name}-alerting-is-silent"
  alarm_description   = "Alertmanager has told nothing for a quarter of an hour: no alert of the cluster would arrive."
  namespace           = "AWS/SNS"
  metric_name         = "NumberOfMessagesPublished"
  dimensions          = { TopicName = aws_sns_topic.heartbeat.name }
  statistic           = "Sum"
  comparison_operator = "LessThanThreshold"
  threshold           = 1
  period              = 300
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

################################################################################
# Subscribers and money; the queues' alarms are beside the queues
################################################################################

resource "aws_cloudwatch_metric_alarm" "events_not_delivered" {
  alarm_name          = "${var.name}-events-not-delivered"
  alarm_description   = "A subscriber refused events for good, after SNS's retries: its policy, its key, or it is gone."
  namespace           = "AWS/SNS"
  metric_name         = "NumberOfNotificationsFailed"
  dimensions          = { TopicName = aws_sns_topic.events.name }
  statistic           = "Sum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 300
  evaluation_periods  = 1
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_budgets_budget" "month" {
  name         = "${var.name}-month"
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "notification" {
    for_each = { ACTUAL = 80, FORECASTED = 100 }

    content {
      notification_type         = notification.key
      threshold                 = notification.value
      threshold_type            = "PERCENTAGE"
      comparison_operator       = "GREATER_THAN"
      subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
    }
  }

  depends_on = [aws_sns_topic_policy.alarms] # a budget is refused whose topic it cannot reach
}
