# What each kind of pod may call: what its code calls, on its own resources. tests/test_terraform.py
# holds this to the code in both directions.

locals {
  # In the results bucket of an unknown key, 404 means absent and 403 a fault of ours: S3 tells them
  # apart only for who may list.
  pods = {
    function = {
      namespace       = var.namespace
      service_account = var.service_accounts.function
      statements = concat([
        { Sid = "ReadPhotos", Action = ["s3:GetObject", "s3:GetObjectVersion"], Resource = ["${module.photos.arn}/*"] },
        { Sid = "TellGoneFromForbidden", Action = ["s3:ListBucket"], Resource = [module.photos.arn, module.results.arn] },
        { Sid = "Outbox", Action = ["s3:GetObject", "s3:PutObject"], Resource = local.outbox_arns },
        { Sid = "ReadReferences", Action = ["s3:GetObject"], Resource = ["${module.results.arn}/${local.references}*"] },
        { Sid = "Publish", Action = ["sns:Publish", "sns:GetTopicAttributes"], Resource = [aws_sns_topic.events.arn] },
        { Sid = "Key", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.data.arn] },
        ], length(var.upload_prefixes) == 0 ? [] : [
        # Who was offered a place puts a photo there with these rights.
        { Sid = "OfferPlaces", Action = ["s3:PutObject"], Resource = [for prefix in var.upload_prefixes : "${module.photos.arn}/${prefix}*"] },
      ])
    }

    source = {
      namespace       = var.namespace
      service_account = var.service_accounts.source
      statements = [
        { Sid = "Photos", Action = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"], Resource = [module.queue.arn] },
        { Sid = "DeadLetters", Action = ["sqs:SendMessage", "sqs:GetQueueUrl", "sqs:GetQueueAttributes"], Resource = [module.queue.dead_letters_arn] },
        { Sid = "CheckThatResultsAreNotWatched", Action = ["s3:GetBucketNotification"], Resource = [module.results.arn] },
      ]
    }

    sweep = {
      namespace       = var.namespace
      service_account = var.service_accounts.sweep
      statements = [
        { Sid = "ListPhotos", Action = ["s3:ListBucketVersions", "s3:GetBucketNotification"], Resource = [module.photos.arn] },
        { Sid = "FindResults", Action = ["s3:GetObject"], Resource = ["${module.results.arn}/${local.results}*"] },
        { Sid = "TellAbsentFromForbidden", Action = ["s3:ListBucket"], Resource = [module.results.arn] },
        { Sid = "Announce", Action = ["sqs:SendMessage", "sqs:GetQueueAttributes"], Resource = [module.queue.arn] },
        { Sid = "Key", Action = ["kms:Decrypt"], Resource = [aws_kms_key.data.arn] },
      ]
    }

    replay = {
      namespace       = var.namespace
      service_account = var.service_accounts.replay
      statements = [
        { Sid = "Photos", Action = ["sqs:SendMessage", "sqs:GetQueueAttributes"], Resource = [module.queue.arn] },
        { Sid = "DeadLetters", Action = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueUrl"], Resource = [module.queue.dead_letters_arn] },
      ]
    }

    rollout = {
      namespace       = var.namespace
      service_account = var.service_accounts.rollout
      statements      = [{ Sid = "Tell", Action = ["sns:Publish"], Resource = [aws_sns_topic.alarms.arn] }]
    }

    loki = {
      namespace       = var.loki.namespace
      service_account = var.loki.service_account
      statements = [
        { Sid = "List", Action = ["s3:ListBucket"], Resource = [module.logs.arn] },
        { Sid = "Keep", Action = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], Resource = ["${module.logs.arn}/*"] },
        { Sid = "Key", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.data.arn] },
      ]
    }

    alertmanager = {
      namespace       = var.alertmanager.namespace
      service_account = var.alertmanager.service_account
      statements      = [{ Sid = "Tell", Action = ["sns:Publish"], Resource = [aws_sns_topic.alarms.arn, aws_sns_topic.heartbeat.arn] }]
    }

    image-updater = {
      namespace       = var.image_updater.namespace
      service_account = var.image_updater.service_account
      statements = [
        { Sid = "LogIn", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }, # it takes no resource
        { Sid = "ReadTags", Action = ["ecr:ListImages", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], Resource = [aws_ecr_repository.this.arn] },
      ]
    }

    policy-controller = {
      namespace       = var.policy_controller.namespace
      service_account = var.policy_controller.service_account
      statements = [
        { Sid = "LogIn", Action = ["ecr:GetAuthorizationToken"], Resource = ["*"] }, # it takes no resource
        # Images, and what refers to them: ListImageReferrers asks for BatchGetImage.
        { Sid = "ReadSignatures", Action = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"], Resource = [aws_ecr_repository.this.arn] },
      ]
    }
  }

  outbox_arns = [for prefix in [local.results, local.published] : "${module.results.arn}/${prefix}*"]

  optional_pods = merge(
    var.keda == null ? {} : {
      keda = {
        namespace       = var.keda.namespace
        service_account = var.keda.service_account
        statements      = [{ Sid = "Depth", Action = ["sqs:GetQueueAttributes"], Resource = [module.queue.arn] }]
      }
    },
    var.cert_manager == null ? {} : {
      # https://cert-manager.io/docs/configuration/acme/dns01/route53/
      cert-manager = {
        namespace       = var.cert_manager.namespace
        service_account = var.cert_manager.service_account
        statements = [
          { Sid = "Wait", Action = ["route53:GetChange"], Resource = ["${local.arn_prefix}:route53:::change/*"] },
          { Sid = "Prove", Action = ["route53:ChangeResourceRecordSets", "route53:ListResourceRecordSets"], Resource = ["${local.arn_prefix}:route53:::hostedzone/${var.cert_manager.hosted_zone_id}"] },
          { Sid = "FindZone", Action = ["route53:ListHostedZonesByName"], Resource = ["*"] }, # it takes no resource
        ]
      }
    },
  )
}

module "pod_role" {
  source   = "./modules/pod_role"
  for_each = merge(local.pods, local.optional_pods)

  name            = "${var.name}-${each.key}"
  cluster_name    = local.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  statements      = each.value.statements
}

################################################################################
# For those outside the cluster: attach to the camera's role, to a subscriber's
################################################################################

resource "aws_iam_policy" "camera" {
  name        = "${var.name}-camera"
  description = "Upload photos, and neither read nor delete them"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "Upload", Effect = "Allow", Action = ["s3:PutObject"], Resource = ["${module.photos.arn}/*"] },
      # Decrypt: S3 reads back the parts of a multipart upload.
      { Sid = "Key", Effect = "Allow", Action = ["kms:GenerateDataKey", "kms:Decrypt"], Resource = [aws_kms_key.data.arn] },
    ]
  })
}

resource "aws_iam_policy" "subscriber" {
  name        = "${var.name}-subscriber"
  description = "Follow the dataref of an event that was too long for SNS"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Sid = "ReadResults", Effect = "Allow", Action = ["s3:GetObject"], Resource = ["${module.results.arn}/${local.results}*"] },
      { Sid = "Key", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [aws_kms_key.data.arn] },
    ]
  })
}
