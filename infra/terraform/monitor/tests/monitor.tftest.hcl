# The root without an account: with a database of its own, and with another's.

mock_provider "aws" {
  override_during = plan

  override_resource {
    target = module.queue.aws_sqs_queue.this
    values = {
      id  = "https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-monitor"
      arn = "arn:aws:sqs:eu-west-1:123456789012:shelfwatch-monitor"
    }
  }
  override_resource {
    target = aws_sns_topic.digest
    values = { arn = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-digest" }
  }
  override_resource {
    target = aws_db_instance.this
    values = {
      address            = "monitor.example.eu-west-1.rds.amazonaws.com"
      master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x", kms_key_id = "", secret_status = "" }]
    }
  }
}

variables {
  account_id         = "123456789012"
  region             = "eu-west-1"
  events_topic_arn   = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-events"
  alarms_topic_arn   = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-alarms"
  results_bucket_arn = "arn:aws:s3:::shelfwatch-results-123456789012"
  photos_queue_arn   = "arn:aws:sqs:eu-west-1:123456789012:shelfwatch-photos"
  kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
}

run "without_a_database" {
  command = plan

  assert {
    condition     = length(aws_db_instance.this) == 0
    error_message = "A database was planned that nobody asked for."
  }
  assert {
    condition     = jsondecode(aws_sns_topic_subscription.events.filter_policy).type == ["io.shelfwatch.shelf.audited", "io.shelfwatch.image.rejected"]
    error_message = "What the monitor publishes would come back to it."
  }
  assert {
    condition     = alltrue([for statement in jsondecode(module.queue.policy).Statement : try(statement.Condition.ArnEquals["aws:SourceArn"], "") == (statement.Effect == "Allow" ? var.events_topic_arn : "")])
    error_message = "The queue lets in more than the topic."
  }
}

run "with_a_database" {
  command = plan

  variables {
    database = {
      vpc_id                   = "vpc-1"
      subnet_ids               = ["subnet-1", "subnet-2"]
      client_security_group_id = "sg-1"
    }
  }

  assert {
    condition = alltrue([
      aws_db_instance.this[0].storage_encrypted,
      aws_db_instance.this[0].deletion_protection,
      aws_db_instance.this[0].manage_master_user_password,
      !aws_db_instance.this[0].publicly_accessible,
      aws_db_instance.this[0].backup_retention_period >= 7,
    ])
    error_message = "The database is not as safe as it must be."
  }
}

run "without_a_database_the_secret_is_still_to_be_made" {
  command = plan

  assert {
    condition     = strcontains(output.next, "shelfwatch-monitor") && strcontains(output.next, "sns subscribe") && !strcontains(output.next, "psql")
    error_message = "The commands are not those for a database of one's own."
  }
}

run "it_may_be_deleted_when_somebody_says_so" {
  command = plan

  variables {
    deletion_protection = false
    database = {
      vpc_id                   = "vpc-1"
      subnet_ids               = ["subnet-1", "subnet-2"]
      client_security_group_id = "sg-1"
    }
  }

  assert {
    condition     = !aws_db_instance.this[0].deletion_protection && !aws_db_instance.this[0].skip_final_snapshot
    error_message = "The database cannot go, or goes without a snapshot."
  }
}

run "name_that_a_database_refuses" {
  command = plan
  variables {
    name = "shelves-"
  }
  expect_failures = [var.name]
}

run "one_subnet_is_refused" {
  command = plan

  variables {
    database = { vpc_id = "vpc-1", subnet_ids = ["subnet-1"], client_security_group_id = "sg-1" }
  }

  expect_failures = [var.database]
}
