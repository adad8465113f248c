# What the monitor needs beside the rest (infra/terraform/shelfwatch): its queue on the topic of events, a topic for the
# digest, its pods' roles, and a PostgreSQL where there is none yet.

locals {
  cluster_name = coalesce(var.cluster_name, var.name)

  # What the function publishes (events/types.py). What the monitor publishes on the same topic does not come back.
  types = ["io.shelfwatch.shelf.audited", "io.shelfwatch.image.rejected"]
}

################################################################################
# The queue
################################################################################

module "queue" {
  source = "../shelfwatch/modules/queue"

  name            = "${var.name}-monitor"
  alarm_topic_arn = var.alarms_topic_arn

  sender = {
    sid     = "EventsTopic"
    service = "sns.amazonaws.com"
    arn     = var.events_topic_arn
  }

  alarms = {
    age          = "The monitor is a quarter of an hour behind: the database, its pods, or one event that fails again and again."
    dead_letters = "The monitor refused events. Their reason is in the messages' attributes."
  }
}

resource "aws_sns_topic_subscription" "events" {
  topic_arn            = var.events_topic_arn
  protocol             = "sqs"
  endpoint             = module.queue.arn
  raw_message_delivery = true
  filter_policy        = jsonencode({ type = local.types })
}

################################################################################
# The digest, for people: a topic of its own, so that a subscription by e-mail is readable
################################################################################

resource "aws_sns_topic" "digest" {
  name              = "${var.name}-digest"
  kms_master_key_id = var.kms_key_arn
}

################################################################################
# What the pods may call
################################################################################

module "pod_role" {
  source = "../shelfwatch/modules/pod_role"
  for_each = {
    monitor = {
      service_account = var.service_accounts.monitor
      statements = [
        { Sid = "FollowDataref", Action = ["s3:GetObject"], Resource = ["${var.results_bucket_arn}/results/*"] },
        { Sid = "TellGoneFromForbidden", Action = ["s3:ListBucket"], Resource = [var.results_bucket_arn] },
        { Sid = "Publish", Action = ["sns:Publish"], Resource = [var.events_topic_arn, aws_sns_topic.digest.arn] },
        { Sid = "Behind", Action = ["sqs:GetQueueAttributes"], Resource = [module.queue.arn, var.photos_queue_arn] },
        { Sid = "Key", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [var.kms_key_arn] },
      ]
    }
    monitor-source = {
      service_account = var.service_accounts.source
      statements = [
        { Sid = "Events", Action = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"], Resource = [module.queue.arn] },
        { Sid = "DeadLetters", Action = ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"], Resource = [module.queue.dead_letters_arn] },
      ]
    }
  }

  name            = "${var.name}-${each.key}"
  cluster_name    = local.cluster_name
  namespace       = var.namespace
  service_account = each.value.service_account
  statements      = each.value.statements
}

################################################################################
# PostgreSQL, unless there is one already
################################################################################

resource "aws_db_subnet_group" "this" {
  count = var.database == null ? 0 : 1

  name       = "${var.name}-monitor"
  subnet_ids = var.database.subnet_ids
}

resource "aws_security_group" "database" {
  count = var.database == null ? 0 : 1

  name        = "${var.name}-monitor-database"
  description = "PostgreSQL, from the cluster's nodes alone"
  vpc_id      = var.database.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  count = var.database == null ? 0 : 1

  description                  = "The cluster's nodes"
  security_group_id            = aws_security_group.database[0].id
  referenced_security_group_id = var.database.client_security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
}

resource "aws_db_parameter_group" "this" {
  count = var.database == null ? 0 : 1

  name   = "${var.name}-monitor"
  family = "postgres17"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }
}

resource "aws_db_instance" "this" {
  #checkov:skip=CKV_AWS_157: one zone unless asked for two; the queue holds events for four days
  #checkov:skip=CKV_AWS_118: enhanced monitoring wants a role and tells no more than the alarms do
  #checkov:skip=CKV_AWS_353: as above
  count = var.database == null ? 0 : 1

  identifier     = "${var.name}-monitor"
  engine         = "postgres"
  engine_version = "17"
  instance_class = var.database.instance_class

  db_name                       = "monitor"
  username                      = "owner"
  manage_master_user_password   = true # in Secrets Manager, and rotated; pods have a user of their own
  master_user_secret_kms_key_id = var.kms_key_arn

  allocated_storage     = 20
  max_allocated_storage = var.database.max_storage_gb # it grows by itself
  storage_type          = "gp3"
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_subnet_group_name                = aws_db_subnet_group.this[0].name
  vpc_security_group_ids              = [aws_security_group.database[0].id]
  parameter_group_name                = aws_db_parameter_group.this[0].name
  publicly_accessible                 = false
  multi_az                            = var.database.multi_az
  iam_database_authentication_enabled = true
  ca_cert_identifier                  = "rds-ca-rsa2048-g1"

  backup_retention_period         = var.database.backup_days
  copy_tags_to_snapshot           = true
  auto_minor_version_upgrade      = true
  deletion_protection             = var.deletion_protection
  skip_final_snapshot             = false
  final_snapshot_identifier       = "${var.name}-monitor-final"
  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
}

################################################################################
# What an installation of before has under other names
################################################################################

moved {
  from = aws_sqs_queue.events
  to   = module.queue.aws_sqs_queue.this
}

moved {
  from = aws_sqs_queue.dead_letters
  to   = module.queue.aws_sqs_queue.dead_letters
}

moved {
  from = aws_sqs_queue_redrive_allow_policy.dead_letters
  to   = module.queue.aws_sqs_queue_redrive_allow_policy.dead_letters
}

moved {
  from = aws_sqs_queue_policy.this["events"]
  to   = module.queue.aws_sqs_queue_policy.this
}

moved {
  from = aws_sqs_queue_policy.this["dead_letters"]
  to   = module.queue.aws_sqs_queue_policy.dead_letters
}

moved {
  from = aws_cloudwatch_metric_alarm.queue
  to   = module.queue.aws_cloudwatch_metric_alarm.this
}
