# The whole root without an account. `override_during = plan` lets ARNs be known in the plan, so that
# tests/test_terraform.py reads every policy as AWS would get it.

mock_provider "aws" {
  override_during = plan

  override_data {
    target = data.aws_partition.this
    values = { partition = "aws" }
  }
  override_resource {
    target = module.photos.aws_s3_bucket.this
    values = { id = "shelfwatch-photos-123456789012", arn = "arn:aws:s3:::shelfwatch-photos-123456789012" }
  }
  override_resource {
    target = module.results.aws_s3_bucket.this
    values = { id = "shelfwatch-results-123456789012", arn = "arn:aws:s3:::shelfwatch-results-123456789012" }
  }
  override_resource {
    target = module.logs.aws_s3_bucket.this
    values = { id = "shelfwatch-logs-123456789012", arn = "arn:aws:s3:::shelfwatch-logs-123456789012" }
  }
  override_resource {
    target = module.queue.aws_sqs_queue.this
    values = {
      id  = "https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-photos"
      arn = "arn:aws:sqs:eu-west-1:123456789012:shelfwatch-photos"
    }
  }
  override_resource {
    target = module.queue.aws_sqs_queue.dead_letters
    values = {
      id  = "https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-photos-dlq"
      arn = "arn:aws:sqs:eu-west-1:123456789012:shelfwatch-photos-dlq"
    }
  }
  override_resource {
    target = aws_sns_topic.events
    values = { id = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-events", arn = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-events" }
  }
  override_resource {
    target = aws_sns_topic.alarms
    values = { id = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-alarms", arn = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-alarms" }
  }
  override_resource {
    target = aws_sns_topic.heartbeat
    values = { id = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-heartbeat", arn = "arn:aws:sns:eu-west-1:123456789012:shelfwatch-heartbeat" }
  }
  override_resource {
    target = aws_kms_key.data
    values = { key_id = "11111111-2222-3333-4444-555555555555", arn = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555" }
  }
  override_resource {
    target = aws_ecr_repository.this
    values = {
      arn            = "arn:aws:ecr:eu-west-1:123456789012:repository/shelfwatch"
      repository_url = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/shelfwatch"
    }
  }
  mock_resource "aws_iam_role" {
    defaults = { id = "role", arn = "arn:aws:iam::123456789012:role/role" }
  }
  mock_resource "aws_iam_policy" {
    defaults = { arn = "arn:aws:iam::123456789012:policy/policy" }
  }
  mock_resource "aws_iam_openid_connect_provider" {
    defaults = { arn = "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" }
  }
}

variables {
  account_id        = "123456789012"
  region            = "eu-west-1"
  github_repository = "example/shelfwatch"
  alarm_email       = "oncall@example.com"
}

################################################################################
# What a plan must hold; the policies are read in tests/test_terraform.py
################################################################################

run "everything" {
  command = plan

  variables {
    cert_manager           = { hosted_zone_id = "Z0123456789" }
    keda                   = { namespace = "keda", service_account = "keda-operator" }
    subscriber_account_ids = ["210987654321"]
    upload_prefixes        = ["store-17/"]
  }

  assert {
    condition     = aws_s3_bucket_notification.photos.queue[0].queue_arn == module.queue.arn
    error_message = "The photos' bucket announces to another queue."
  }
  assert {
    condition     = aws_s3_bucket_notification.photos.bucket != module.results.name
    error_message = "Results are watched: they would come back as photos."
  }
  assert {
    condition     = length(module.pod_role) == 11
    error_message = "Function, source, sweep, replay, conductor, Loki, Alertmanager, Image Updater, policy-controller, KEDA and cert-manager have a role each."
  }
  assert {
    condition     = output.settings.QUEUE_URL == "https://sqs.eu-west-1.amazonaws.com/123456789012/shelfwatch-photos"
    error_message = "The pods are told of another queue."
  }
  assert {
    condition     = strcontains(output.next, "gh variable set AWS_ROLE_ARN")
    error_message = "The outputs end without the next commands."
  }
}

run "least" {
  command = plan

  variables {
    alarm_email            = ""
    create_github_provider = false
  }

  assert {
    condition     = length(module.pod_role) == 9
    error_message = "A role for KEDA or cert-manager, which nobody asked for."
  }
  assert {
    condition     = !contains(keys(output.settings), "UPLOADS_BUCKET")
    error_message = "Places for photos are offered, which nobody asked for."
  }
  assert {
    condition     = length(aws_sns_topic_subscription.alarm_email) + length(aws_iam_openid_connect_provider.github) == 0
    error_message = "What was left out is there."
  }
}

run "immutable_subject" {
  command = plan

  variables {
    github_repository = "example@1234/shelfwatch@5678"
    github_branch     = "release"
  }

  assert {
    condition = jsondecode(aws_iam_role.push.assume_role_policy).Statement[0].Condition.StringEquals[
      "token.actions.githubusercontent.com:sub"
    ] == "repo:example@1234/shelfwatch@5678:ref:refs/heads/release"
    error_message = "The role trusts another subject."
  }
}

################################################################################
# What is refused, with a sentence that names the variable
################################################################################

run "account_id_of_letters" {
  command = plan
  variables {
    account_id = "my-account"
  }
  expect_failures = [var.account_id]
}

run "every_repository_of_an_owner" {
  command = plan
  variables {
    github_repository = "example/*"
  }
  expect_failures = [var.github_repository]
}

run "every_branch" {
  command = plan
  variables {
    github_branch = "*"
  }
  expect_failures = [var.github_branch]
}

run "photos_gone_before_their_replay" {
  command = plan
  variables {
    photo_retention_days = 18
  }
  expect_failures = [var.photo_retention_days]
}

run "results_gone_before_their_photos" {
  command = plan
  variables {
    photo_retention_days   = 100
    results_retention_days = 99
  }
  expect_failures = [var.results_retention_days]
}

run "uploads_under_half_a_name" {
  command = plan
  variables {
    upload_prefixes = ["store-1*"]
  }
  expect_failures = [var.upload_prefixes]
}

run "everybody_subscribes" {
  command = plan
  variables {
    subscriber_account_ids = ["*"]
  }
  expect_failures = [var.subscriber_account_ids]
}

run "name_too_long_for_a_bucket" {
  command = plan
  variables {
    name = "shelfwatch-of-the-northern-stores"
  }
  expect_failures = [var.name]
}

run "name_that_the_registry_refuses" {
  command = plan
  variables {
    name = "shelves--north"
  }
  expect_failures = [var.name]
}

run "budget_of_nothing" {
  command = plan
  variables {
    monthly_budget_usd = 0
  }
  expect_failures = [var.monthly_budget_usd]
}
